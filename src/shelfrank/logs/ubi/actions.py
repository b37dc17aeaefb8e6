"""What the actions of User Behavior Insights mean, in a file and live."""

LABEL_OF = {"click": "click", "click_through": "click", "add_to_cart": "add_to_cart", "purchase": "purchase"}
"""The label that an action on a product of the list sets; it sets no other."""
NEEDS_QUERY = ("add_to_cart", "purchase")
"""Actions that become labels only with the query that led to them, wherever in the shop they are done."""

IMPRESSION = "impression"
HISTORY_ONLY = ("watch", "view")
"""What is history wherever it is done, never a label."""

KNOWN_ACTIONS = (*LABEL_OF, IMPRESSION, *HISTORY_ONLY)
