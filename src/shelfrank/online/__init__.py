"""Features of a page at the time it is asked for: the same functions as offline, over memory-mapped tables."""

from shelfrank.online.asked import Asked, Event, Page
from shelfrank.online.store import FeatureStore

__all__ = ["Asked", "Event", "FeatureStore", "Page"]
