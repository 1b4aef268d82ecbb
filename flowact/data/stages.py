"""Work done ahead in another thread, and how long each stage of it takes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from flowact.streaming.channel import Channel, ClosedError

T = TypeVar("T")


class StageTimes:
    """Seconds spent in each stage, of any thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what is done inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                spent = time.perf_counter() - began
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def each(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """Time how long every item of an iterator takes to come."""
        while True:
            with self(stage):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """``items``, of which up to ``depth`` are made in another thread before they are asked for.

    An exception there is raised here, after what came before it.
    """
    channel: Channel[T] = Channel(depth)
    failed: list[BaseException] = []

    def make() -> None:
        try:
            for item in items:
                channel.put(item)
        except ClosedError:
            pass
        except BaseException as error:
            failed.append(error)
        finally:
            channel.close()

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        yield from channel
    finally:
        channel.cancel()
        thread.join()
    if failed:
        raise failed[0]
