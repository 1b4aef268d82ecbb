"""Denoising and decoding as a pipeline of two threads with bounded queues (paper 2.4)."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowact.streaming.channel import Channel, ClosedError
from flowact.streaming.session import Session


@dataclass
class Timing:
    """What a run took, in seconds by ``time.perf_counter``.

    Attributes:
        started: when the session got its first audio.
        emitted: when each chunk's frames came out.
        tick_s: the denoiser's calls of each tick.
        stage_s: busy time by stage.
        calls, refine_calls, ramp_calls: model calls in all, for repairs (not among ``calls``), and
            in the ticks before the first chunk left (among ``calls``).
    """

    started: float = 0.0
    emitted: list[float] = field(default_factory=list)
    tick_s: list[float] = field(default_factory=list)
    stage_s: dict[str, float] = field(
        default_factory=lambda: {"audio": 0.0, "denoise": 0.0, "decode": 0.0, "write": 0.0}
    )
    calls: int = 0
    refine_calls: int = 0
    ramp_calls: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.stage_s[name] += time.perf_counter() - begun


class Engine:
    """Runs a session: one thread denoises, one decodes, the caller takes the frames.

    Back-pressure runs from the caller to the audio: no queue holds more than ``capacity`` chunks.
    The first error of any thread ends all three and is raised to the caller.

    Args:
        session: not used by anyone else meanwhile.
        capacity: chunks each queue may hold.
        threads: torch's threads for each stage; None shares torch's number out. Threads that
            outnumber the cores wait for one another at every operation.
    """

    def __init__(self, session: Session, capacity: int = 2, threads: int | None = None) -> None:
        self.session = session
        self.timing = Timing()
        self._threads = threads or max(1, torch.get_num_threads() // 2)
        self._finished: Channel[None] = Channel(capacity)
        self._frames: Channel[Tensor] = Channel(capacity)
        self._errors: list[BaseException] = []

    def run(self, audio: Iterable[Tensor]) -> Generator[Tensor, None, None]:
        """Frames [B, F, H, W, 3] uint8, a chunk at a time, from blocks of audio as they come.

        Closing the generator stops both threads; chunks in flight are lost.
        """
        workers = [
            threading.Thread(target=self._guard, args=(self._denoise, audio), name="denoise"),
            threading.Thread(target=self._guard, args=(self._decode,), name="decode"),
        ]
        before = torch.get_num_threads()
        self.timing.started = time.perf_counter()
        for worker in workers:
            worker.start()
        try:
            for frames in self._frames:
                self.timing.emitted.append(time.perf_counter())
                yield frames
        finally:
            self._cancel()
            for worker in workers:
                worker.join()
            torch.set_num_threads(before)  # MKL has one number for all threads of a process
        if self._errors:
            raise self._errors[0]

    def _denoise(self, audio: Iterable[Tensor]) -> None:
        session, timing = self.session, self.timing
        blocks = iter(audio)
        while self._feed(blocks):
            with timing.stage("audio"):
                features = session.features()
            begun = time.perf_counter()
            tick = session.tick(features)
            timing.tick_s.append(time.perf_counter() - begun)
            timing.stage_s["denoise"] += timing.tick_s[-1]
            timing.calls += tick.calls
            timing.refine_calls += tick.refine_calls
            if tick.finished is None:
                timing.ramp_calls += tick.calls
            else:
                self._finished.put(None)
        self._finished.close()

    def _feed(self, blocks: Iterator[Tensor]) -> bool:
        """Push audio until the next tick can run; False when no tick is left."""
        while not self.session.ready:
            block = next(blocks, None)
            if block is None:
                self.session.end()
            else:
                self.session.push(block)
        return not self.session.done

    def _decode(self) -> None:
        for _ in self._finished:
            with self.timing.stage("decode"):
                frames = self.session.decode()
            self._frames.put(frames)
        self._frames.close()

    def _guard(self, work: Callable[..., None], *inputs: object) -> None:
        """Run a thread's work; the first error wins and stops the others."""
        torch.set_num_threads(self._threads)
        try:
            work(*inputs)
        except ClosedError:
            pass
        except BaseException as error:
            self._errors.append(error)
            self._cancel()

    def _cancel(self) -> None:
        self._finished.cancel()
        self._frames.cancel()
