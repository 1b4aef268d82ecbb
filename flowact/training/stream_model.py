"""Ticks of the stream as training calls them: the sampler's own, and differentiable (design 8.3).

A rollout in training and a stream are one code: what trains is what runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from flowact.data.data_folder import Windows
from flowact.diffusion import flow
from flowact.diffusion.levels import Levels
from flowact.geometry import Geometry
from flowact.models.caches import TextCache
from flowact.settings import StreamSettings
from flowact.streaming.memory import Memory, MemoryLatent
from flowact.streaming.sampler import StreamSampler, stream_noise
from flowact.streaming.state import Conditions, QueuedChunk, StreamState
from flowact.training.window_model import Buffer, WindowModel

Prompts = tuple[tuple[str, ...], ...]  # of each sample, one a chunk
UNTOLD = TextCache(torch.empty(0), None, ())  # of chunks until a tick tells them their prompts


@dataclass(frozen=True)
class TickCall:
    """A tick of a batch of streams.

    Attributes:
        state: before it. What memory has left in the layers is computed again, so that gradients
            reach it.
        prompts: of the chunks in the queue, with the one that enters, oldest first.
        audio: features of the chunk that becomes due, as in ``Conditions``.
        settings: of the streams.
    """

    state: StreamState
    prompts: Prompts
    audio: Tensor | None
    settings: StreamSettings


@dataclass(frozen=True)
class RepairCall:
    """The repair of the short-term latent of a batch of streams (paper 2.5).

    Attributes:
        state: as in ``TickCall``.
        prompts: that the latent was made under.
        audio: features that it was made under, [B, 1, window, D].
        settings: of the streams; their ``refine_level`` is where it starts.
    """

    state: StreamState
    prompts: tuple[str, ...]
    audio: Tensor | None
    settings: StreamSettings


class StreamModel(WindowModel):
    """A ``WindowModel`` that is also asked for ticks and repairs of streams."""

    @classmethod
    def of(cls, network: WindowModel) -> "StreamModel":
        """One of the same parts."""
        return cls(network.transformer, network.text_encoder, network.geometry)

    def forward(self, call: Buffer | TickCall | RepairCall) -> Any:
        """What ``call`` asks for.

        Returns:
            A velocity (see ``WindowModel``); the estimates of a tick, and the tick; or the repaired
            latent [B, C, 1, H, W].
        """
        if isinstance(call, Buffer):
            return super().forward(call)
        sampler = StreamSampler(self.transformer, self.geometry, call.settings)
        state = replace(call.state, memory=_uncached(call.state.memory))
        if isinstance(call, TickCall):
            texts, of_chunk = self.texts(call.prompts)
            told = tuple(texts[place] for place in of_chunk)
            tick = sampler.tick(state, Conditions(told, call.audio, self._null(call)))
            return tick.estimates, tick
        texts, _ = self.texts([(prompt,) for prompt in call.prompts])
        entry = replace(state.memory.short_term, text=texts[0], audio=call.audio)
        state = replace(state, memory=replace(state.memory, short_term=entry))
        chunk = state.tick - self.geometry.depth
        return sampler.repair(state, chunk, self._null(call)).memory.short_term.latent

    def _null(self, call: TickCall | RepairCall) -> TextCache | None:
        if call.settings.passes == 1:
            return None
        (text,), _ = self.texts([("",)] * len(call.prompts))
        return text


@contextmanager
def untracked() -> Iterator[None]:
    """Without gradients, and leaving no weights behind that autocast made without them.

    It keeps the weights that it has cast for later calls; made here they would cut those off.
    """
    with torch.no_grad():
        yield
    torch.clear_autocast_cache()


@dataclass(frozen=True)
class Streams:
    """A batch of clips as streams: the conditions of their ticks, and where they begin.

    Attributes:
        windows: of chunks enough for all ticks; audio is None where nothing is heard.
        geometry, settings: of the streams.
        seeds: of their noise, one a window.
    """

    windows: Windows
    geometry: Geometry
    settings: StreamSettings
    seeds: tuple[int, ...]

    @property
    def first(self) -> int:
        """The oldest chunk of the windows; those of later windows count from the first's."""
        return self.windows.infos[0].oldest

    def state(self, queued: int) -> StreamState:
        """Before chunk ``first + queued`` enters: memory and queue are those of the clips.

        The chunks in the queue are the clips', at the noise levels of their ages.
        """
        windows, size = self.windows, self.geometry.chunk_latents
        reference, *long_term, short_term = (
            MemoryLatent(latent.float()) for latent in windows.context.split(1, dim=2)
        )
        tick = self.first + queued
        empty = StreamState(Memory(reference, tuple(long_term), short_term), (), tick, self.seeds)
        levels = Levels(self.geometry.depth, self.settings.micro_steps, self.settings.shift)
        queue = []
        for place in range(queued):
            index = self.first + place
            clean = windows.stream[:, :, place * size : (place + 1) * size].float()
            noise = stream_noise(empty, "stream", index, size)
            latents = flow.add_noise(clean, noise, levels.at(tick - index))
            audio = self._audio(index)
            if audio is not None and index >= tick - self.settings.audio_lag:
                audio = torch.zeros_like(audio)
            queue.append(QueuedChunk(index, latents, noise, UNTOLD, audio))
        return replace(empty, queue=tuple(queue))

    def call(self, state: StreamState) -> TickCall:
        """The next tick from ``state``."""
        indices = [*(chunk.index for chunk in state.queue), state.tick]
        prompts = tuple(
            tuple(info.captions[index - self.first] for index in indices)
            for info in self.windows.infos
        )
        due = state.tick - self.settings.audio_lag
        audio = self._audio(due) if due >= self.first else None
        return TickCall(state, prompts, audio, self.settings)

    def roll(self, network: nn.Module, state: StreamState, ticks: int) -> StreamState:
        """``state`` after so many ticks of ``network``, a ``StreamModel``, without gradients."""
        with untracked():
            for _ in range(ticks):
                _, tick = network(self.call(state))
                state = tick.state
        return state

    def buffer(self, call: TickCall, latents: Tensor, reference_alone: bool) -> Buffer:
        """Clean ``latents`` of the queue at a tick, under what it has of conditions and memory."""
        size, settings = self.geometry.chunk_latents, self.settings
        entries = call.state.memory.entries
        slots = self.geometry.slots(len(entries) - 2)
        kept = 1 if reference_alone else len(entries)
        chunks = len(call.prompts[0])
        audio = None
        if self.windows.audio is not None:
            last = call.state.tick + 1 - self.first
            audio = self.windows.audio[:, (last - chunks) * size : last * size].clone()
            audio[:, max(0, chunks - settings.audio_lag) * size :] = 0  # chunks that wait for it
        guidance = None
        if settings.text_scale is not None:
            pair = latents.new_tensor([settings.text_scale, settings.audio_scale])
            guidance = pair.expand(len(latents), -1)
        return Buffer(
            latents=latents,
            levels=latents.new_zeros(len(latents), latents.shape[2]),
            slots=self.geometry.stream_slots(chunks),
            context=torch.cat([entry.latent for entry in entries[:kept]], dim=2),
            context_slots=slots[:kept],
            captions=tuple(tuple(p for p in own for _ in range(size)) for own in call.prompts),
            audio=audio,
            guidance=guidance,
        )

    def truth(self, call: TickCall) -> Tensor:
        """The clips' own latents of the queue at a tick, [B, C, F, H, W]."""
        size, last = self.geometry.chunk_latents, call.state.tick + 1 - self.first
        chunks = len(call.prompts[0])
        return self.windows.stream[:, :, (last - chunks) * size : last * size].float()

    def repair(self) -> RepairCall:
        """The repair of the clips' short-term latents, as they were before the windows."""
        windows = self.windows
        return RepairCall(
            replace(self.state(0), tick=self.first + self.geometry.depth - 1),
            tuple(info.memory_caption for info in windows.infos),
            windows.memory_audio,
            self.settings,
        )

    def _audio(self, chunk: int) -> Tensor | None:
        """Features of a chunk."""
        if self.windows.audio is None:
            return None
        size = self.geometry.chunk_latents
        place = (chunk - self.first) * size
        return self.windows.audio[:, place : place + size]


def _uncached(memory: Memory) -> Memory:
    uncached = [replace(entry, cache=None) for entry in memory.entries]
    return memory.with_entries(dict(enumerate(uncached)))
