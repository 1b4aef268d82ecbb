"""The processes that share a stream, and the bytes they send one another."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from flowact.ranks import rank_and_world

PATIENCE = timedelta(seconds=120)  # without a word from the others, compiling included


class RankLostError(ConnectionError):
    """Another process of the run has ended, or answers no more."""


@dataclass
class Traffic:
    """``received``: bytes that this process has had from the others."""

    received: int = 0


@dataclass(frozen=True)
class Ranks:
    """This process among ``count``; what arrives is told to ``traffic``.

    Tensors travel as bytes, so that every type does with every backend.
    """

    rank: int
    count: int
    traffic: Traffic = field(default_factory=Traffic)
    group: dist.ProcessGroup | None = None

    def beside(self) -> "Ranks":
        """The same processes for another thread, whose messages do not wait for this one's.

        To be called by all of them, in the same order.
        """
        with _partners():
            return Ranks(self.rank, self.count, group=dist.new_group(timeout=PATIENCE))

    def gather_uneven(self, mine: Tensor, counts: Sequence[int]) -> Callable[[], Tensor]:
        """Begin to send ``mine``, [counts[rank], ...]; the result waits for all, in their order."""
        padded = mine.new_zeros(max(counts), *mine.shape[1:])
        padded[: len(mine)] = mine
        arriving = self.gather(padded)
        return lambda: torch.cat([p[:n] for p, n in zip(arriving(), counts, strict=True)])

    def gather(self, mine: Tensor) -> Callable[[], Tensor]:
        """Begin to send ``mine``, of one shape on all; the result waits for all, [count, ...]."""
        sent = mine.contiguous().view(torch.uint8)
        arrived = sent.new_empty(self.count, *sent.shape)
        with _partners():
            work = dist.all_gather_into_tensor(
                arrived.flatten(0, 1), sent, group=self.group, async_op=True
            )

        def wait() -> Tensor:
            with _partners():
                work.wait()
            self.traffic.received += sent.nbytes * (self.count - 1)
            return arrived.view(mine.dtype)

        return wait

    def exchange(self, parts: Tensor) -> Callable[[], Tensor]:
        """Begin to send ``parts[r]`` to each rank r; the result waits for theirs, [count, ...]."""
        sent = parts.contiguous().view(torch.uint8)
        arrived = torch.empty_like(sent)
        with _partners():
            work = dist.all_to_all_single(arrived, sent, group=self.group, async_op=True)

        def wait() -> Tensor:
            with _partners():
                work.wait()
            self.traffic.received += sent.nbytes // self.count * (self.count - 1)
            return arrived.view(parts.dtype)

        return wait


@contextmanager
def _partners() -> Iterator[None]:
    """What torch raises when a partner is gone, as an error that says so."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RankLostError(
            f"another process of this run has ended or answers no more; what it said tells why "
            f"({reason})"
        ) from error


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started, for as long as the block lasts.

    Raises:
        ValueError: this process is the only one.
    """
    rank, count = rank_and_world()
    if count == 1:
        raise ValueError(
            "parallel shares a stream among several processes, and this is the only one; "
            "launch it as torchrun --nproc N scripts/..., or drop parallel"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _partners():
        dist.init_process_group(backend, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Ranks(rank, count)
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """This process's number on its own machine."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
