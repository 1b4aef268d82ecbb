"""Denoising and decoding as a pipeline of two threads with bounded queues (paper 2.4)."""

import atexit
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowact.streaming.channel import Channel, ClosedError
from flowact.streaming.session import Session

PATIENCE = 5.0  # seconds that a stopped run waits for a thread


@dataclass
class Timing:
    """What a run took, in seconds by ``time.perf_counter``.

    Attributes:
        started: when the session was made: image encoding is in the time to the first frame.
        emitted: when each chunk's frames came out.
        tick_s: the denoiser's calls of each tick, those of a repair included.
        stage_s: busy time by stage.
        calls, refine_calls, ramp_calls: model calls in all, for repairs (not among ``calls``), and
            in the ticks before the first chunk left (among ``calls``).
    """

    started: float = 0.0
    emitted: list[float] = field(default_factory=list)
    tick_s: list[float] = field(default_factory=list)
    stage_s: dict[str, float] = field(
        default_factory=lambda: {"condition": 0.0, "denoise": 0.0, "decode": 0.0, "write": 0.0}
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
        self.timing = Timing(started=session.started)
        self.threads = threads or max(1, torch.get_num_threads() // 2)
        self._capacity = capacity

    def run(self, audio: Iterable[Tensor]) -> Generator[Tensor, None, None]:
        """Frames [B, F, H, W, 3] uint8, a chunk at a time, from blocks of audio as they come.

        Closing the generator stops both threads; chunks in flight are lost. A source of audio that
        never gives its next block is left behind.
        """
        finished: Channel[None] = Channel(self._capacity)
        frames: Channel[Tensor] = Channel(self._capacity)
        errors: list[BaseException] = []

        def cancel() -> None:
            finished.cancel()
            frames.cancel()

        def guarded(work: Callable[..., None], *inputs: object) -> None:
            """Run a thread's work; the first error wins and stops the others."""
            try:
                torch.set_num_threads(self.threads)
                work(*inputs)
            except ClosedError:
                pass
            except BaseException as error:
                errors.append(error)
                cancel()

        workers = [
            threading.Thread(target=guarded, args=(self._denoise, audio, finished), daemon=True),
            threading.Thread(target=guarded, args=(self._decode, finished, frames), daemon=True),
        ]

        def stop() -> None:
            cancel()
            for worker in workers:
                worker.join(timeout=PATIENCE)

        before = torch.get_num_threads()
        atexit.register(stop)  # for a stream that is left unfinished
        for worker in workers:
            worker.start()
        try:
            for chunk in frames:
                self.timing.emitted.append(time.perf_counter())
                yield chunk
        finally:
            stop()
            atexit.unregister(stop)
            torch.set_num_threads(before)  # MKL has one number for all threads of a process
        if errors:
            raise errors[0]

    def _denoise(self, audio: Iterable[Tensor], finished: Channel[None]) -> None:
        session, timing = self.session, self.timing
        blocks = iter(audio)
        while self._feed(blocks):
            with timing.stage("condition"):
                conditions = session.conditions()
            begun = time.perf_counter()
            tick = session.tick(conditions)
            timing.tick_s.append(time.perf_counter() - begun)
            timing.stage_s["denoise"] += timing.tick_s[-1]
            timing.calls += tick.calls
            timing.refine_calls += tick.refine_calls
            if tick.finished is None:
                timing.ramp_calls += tick.calls
            else:
                finished.put(None)
        finished.close()

    def _feed(self, blocks: Iterator[Tensor]) -> bool:
        """Push audio until the next tick can run; False when no tick is left."""
        while not self.session.ready:
            block = next(blocks, None)
            if block is None:
                self.session.end()
            else:
                self.session.push(block)
        return not self.session.done

    def _decode(self, finished: Channel[None], frames: Channel[Tensor]) -> None:
        # On a GPU in a queue of its own, beside that of the denoiser.
        device = self.session.autoencoder.device
        with torch.cuda.stream(torch.cuda.Stream(device) if device.type == "cuda" else None):
            for _ in finished:
                with self.timing.stage("decode"):
                    chunk = self.session.decode()
                frames.put(chunk)
        frames.close()
