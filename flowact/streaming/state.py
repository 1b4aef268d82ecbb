"""The stream as a value: what one tick takes and gives (design 4)."""

from dataclasses import dataclass

from torch import Tensor

from flowact.models.caches import TextCache
from flowact.streaming.memory import Memory


@dataclass(frozen=True)
class QueuedChunk:
    """A chunk being denoised.

    Attributes:
        index: its place in the video, from 0.
        latents: [B, C, chunk_latents, H, W], float32.
        noise: what it was at level 1, of the same shape.
        text: its prompt, as last read.
        audio: features [B, chunk_latents, window, feature_dim], zero while they are null; None
            for a model without an adapter.
    """

    index: int
    latents: Tensor
    noise: Tensor
    text: TextCache
    audio: Tensor | None


@dataclass(frozen=True)
class StreamState:
    """Everything the next tick depends on, apart from weights and conditions.

    Attributes:
        memory: reference, long-term queue and short-term latent.
        queue: chunks being denoised, oldest first.
        tick: ticks done; also the index of the chunk that enters next.
        seeds: one a sample of the batch.
    """

    memory: Memory
    queue: tuple[QueuedChunk, ...]
    tick: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Conditions:
    """What a tick is told.

    Attributes:
        texts: prompts of the chunks in the queue, the entering one included, oldest first. The
            same object for the same prompt: attention runs once per distinct object.
        audio: features of the chunk that becomes due, ``[B, chunk_latents, window,
            feature_dim]``: the entering chunk, or under ``audio_lag`` L the one of age L. None
            if no chunk is due yet, or for a model without an adapter.
        null_text: the empty prompt, for guidance.
    """

    texts: tuple[TextCache, ...]
    audio: Tensor | None = None
    null_text: TextCache | None = None


@dataclass(frozen=True)
class FinishedChunk:
    """A chunk at level 0: ``latents`` [B, C, chunk_latents, H, W] of chunk ``index``."""

    index: int
    latents: Tensor


@dataclass(frozen=True)
class Tick:
    """What a tick gives, and its price.

    Attributes:
        state: the next one.
        finished: the chunk that left, if one did.
        estimates: the clean latents that the last call saw in those of the queue, with the chunk
            that left, oldest first, [B, C, F, H, W].
        calls, refine_calls: of the model, for the queue and for a repair.
    """

    state: StreamState
    finished: FinishedChunk | None
    estimates: Tensor
    calls: int
    refine_calls: int
