"""Drops repeated events of a results page, as an import of a log does."""

from collections.abc import Iterable, Iterator

from shelfrank.features.request import Event

MAX_KEYS = 2
"""Number of keys of an event at most."""


class EventDeduplicator:
    """Remembers which products each results page showed, and which of their labels were set.

    In a log, a label of an impression is 0 or 1 however often its event came, and a page shows a product once and one
    product at a position. Events outside the results pages are not labels: each of them counts.

    Memory is bounded: keys are kept in two halves, and when the newer one is full the older one is dropped. A key
    takes about 100 bytes: only its hash is kept, so that one event in 10^13 is mistaken for a repeat.

    Args:
        max_keys: Number of keys that are kept at most; at least half as many are.
    """

    def __init__(self, max_keys: int) -> None:
        self._half = max(max_keys // 2, 1)
        self._older: set[int] = set()
        self._newer: set[int] = set()

    def __len__(self) -> int:
        return len(self._older) + len(self._newer)

    def is_new(self, event: Event, others: Iterable["EventDeduplicator"] = ()) -> bool:
        """Whether an event repeats none before it; a new one is remembered.

        Args:
            event: The event.
            others: Further deduplicators to look in; they do not remember the event.

        Returns:
            False for a repeat.
        """
        for key in _keys(event):
            if key in self._newer or key in self._older or any(key in each for each in others):
                return False
            self._remember(key)
        return True

    def forget(self, event: Event) -> None:
        """Forgets an event that is remembered elsewhere."""
        if not self._newer and not self._older:
            return
        for key in _keys(event):
            self._newer.discard(key)
            self._older.discard(key)

    def __contains__(self, key: int) -> bool:
        return key in self._newer or key in self._older

    def _remember(self, key: int) -> None:
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, set()
        self._newer.add(key)


def _keys(event: Event) -> Iterator[int]:
    """The keys of an event on its page: the label that it sets, or the product and the position that it shows."""
    if event.query is None:
        return
    page = (event.search_id,)
    if event.search_id is None:
        page = (event.query, event.customer_id, event.session_id, event.ts_us)
    yield hash((page, event.action, event.product_id))
    if event.action == "impression" and event.position is not None:
        yield hash((page, event.position))
