"""A run that is told to stop saves first."""

import signal
from types import FrameType, TracebackType
from typing import Any

from flowact.workers import end_with_parent


class Stop:
    """Notes SIGTERM and SIGINT, for the loop to save first; a second one ends the process."""

    def __init__(self) -> None:
        self.asked = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def start_worker(worker: int) -> None:
    """What a process that loads data does first."""
    end_with_parent()
    # A terminal sends Ctrl-C to all processes, and the loop takes data up to the end of its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
