"""A bounded queue between two threads that both can close (design 9)."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ClosedError(Exception):
    """The other side has stopped."""


class Channel(Generic[T]):
    """At most ``capacity`` items in flight: a fast producer waits for a slow consumer.

    ``close`` by the producer ends the consumer's iteration after the last item; ``cancel`` by
    either drops what is in flight and ends both at once.
    """

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Wait for room and append.

        Raises:
            ClosedError: the channel was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                raise ClosedError
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            self._items.clear()
        self.close()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._items) > 0)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
