"""Tells events of a results page that say again what was said before, as an import does."""

from collections.abc import Iterable, Iterator

from shelfrank.features.request import Event

MOST_KEYS = 2
"""Keys of an event."""


class Repeats:
    """What results pages were told to show, and which of their labels were set.

    In a log, a label of an impression is 0 or 1 however often its event came, and a page shows a product once and one
    product at a position. Events outside results pages are no labels: each of them counts.

    Memory is bounded: keys are kept in two halves, and when the newer one is full the older one is forgotten. A key
    takes about 100 bytes: its hash stands for it, by which one event in 10^13 is taken for another's repeat.

    Args:
        most: Keys that are kept at most; at least half as many are.
    """

    def __init__(self, most: int) -> None:
        self._half = max(most // 2, 1)
        self._older: set[int] = set()
        self._newer: set[int] = set()

    def __len__(self) -> int:
        return len(self._older) + len(self._newer)

    def is_new(self, event: Event, others: Iterable["Repeats"] = ()) -> bool:
        """Whether nothing before says the same; the event is then remembered.

        Args:
            event: The event.
            others: Where it may have been said before too; these remember nothing of it.

        Returns:
            False where it repeats.
        """
        for key in _keys(event):
            if any(key in each for each in (self, *others)):
                return False
            self._remember(key)
        return True

    def __contains__(self, key: int) -> bool:
        return key in self._newer or key in self._older

    def _remember(self, key: int) -> None:
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, set()
        self._newer.add(key)


def _keys(event: Event) -> Iterator[int]:
    """What an event says of its page: the label it sets, or the product and then the position that it shows."""
    if event.query is None:
        return
    page = (event.search_id,)
    if event.search_id is None:
        page = (event.query, event.customer_id, event.session_id, event.ts_us)
    yield hash((page, event.action, event.product_id))
    if event.action == "impression" and event.position is not None:
        yield hash((page, event.position))
