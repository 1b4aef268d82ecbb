"""One tick of the stream: the only implementation, for sampling, training and tests (paper 2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from flowact.diffusion import flow
from flowact.diffusion.levels import Levels
from flowact.geometry import Geometry
from flowact.models.caches import ContextCache, PlacedContext, StreamInputs, TextCache
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.rng import keyed_normal
from flowact.settings import Remembered, StreamSettings, Update
from flowact.streaming.memory import Memory, MemoryLatent
from flowact.streaming.state import Conditions, FinishedChunk, QueuedChunk, StreamState, Tick


def stream_noise(state: StreamState, purpose: str, chunk: int, latents: int) -> Tensor:
    """Noise keyed by its chunk: the same whenever, and however fast, the chunk is made."""
    like = state.memory.reference.latent
    shape = (like.shape[1], latents, *like.shape[3:])
    draws = [keyed_normal(shape, seed, purpose, chunk) for seed in state.seeds]
    return torch.stack(draws).to(like.device)


@dataclass(frozen=True)
class Context:
    """Memory in the course of a tick.

    Attributes:
        entries: the latents, in the order of ``Geometry.slots``.
        placed: those that were encoded before, in their slots; None if none was.
        new: the others and their positions, to be encoded by the next call; None if there are none.
        reference: the latent [B, C, 1, H, W] of the reference, for a model that has it below each
            cell; None if it is not seen.
        cache: what the new ones left when they were encoded; it is put in place only for a further
            call, which a distilled model does not make.
    """

    entries: tuple[MemoryLatent, ...]
    placed: PlacedContext | None
    new: tuple[Tensor, Tensor] | None
    reference: Tensor | None
    cache: ContextCache | None = None


class StreamSampler:
    """Moves a stream by one tick; holds weights and settings, and no state.

    Raises:
        ValueError: the settings fit neither the geometry nor the model.
    """

    def __init__(
        self, model: FlowActTransformer3DModel, geometry: Geometry, settings: StreamSettings
    ) -> None:
        config = model.config
        if settings.audio_lag >= geometry.depth:
            raise ValueError(
                f"stream.audio_lag is {settings.audio_lag}; a chunk leaves after {geometry.depth} "
                f"ticks, so it must be {geometry.depth - 1} or less"
            )
        if config.guidance_embeds is not (settings.text_scale is not None):
            raise ValueError(
                "stream.text_scale and stream.audio_scale go with a model that has "
                "guidance_embeds, and are needed there"
            )
        if config.text_level != "zero":
            raise ValueError(
                f"text_level is {config.text_level!r}, the base model's; a stream's text is clean: "
                "build the model with text_level=zero"
            )
        self.model = model
        self.geometry = geometry
        self.settings = settings
        self.levels = Levels(geometry.depth, settings.micro_steps, settings.shift)
        fixed = model.fixed
        if fixed and not (set(self.called_at) <= set(fixed.levels) and self.scales == fixed.scales):
            raise ValueError(
                "the model's levels are fixed for other settings of the stream; load it anew"
            )

    @property
    def called_at(self) -> tuple[float, ...]:
        """All levels that the model is called at."""
        if not self.settings.refine_every:
            return self.levels.all
        return self.levels.all + self.levels.repair(self.settings.refine_level)[:-1]

    @property
    def scales(self) -> tuple[float, float] | None:
        """Of text and audio, for a model that takes them as input."""
        text, audio = self.settings.text_scale, self.settings.audio_scale
        return None if text is None or audio is None else (text, audio)

    def start(self, reference: Tensor, seeds: Sequence[int]) -> StreamState:
        """The state before the first tick, from the image's latents [B, C, 1, H, W]."""
        if len(seeds) != len(reference):
            raise ValueError(f"{len(seeds)} seeds for {len(reference)} images; give one each")
        return StreamState(Memory.of_image(reference.float()), (), 0, tuple(seeds))

    def tick(self, state: StreamState, conditions: Conditions) -> Tick:
        """A chunk of noise enters, all move down one segment, the oldest may leave.

        Raises:
            ValueError: ``conditions`` do not name one prompt for each chunk in the queue.
        """
        queue = self._enter(state, conditions)
        memory = state.memory
        seen = self._seen(memory)
        context = self._context(memory, seen)
        for micro_step in range(self.settings.micro_steps):
            queue, estimates, context = self._step(queue, micro_step, context, conditions.null_text)
        memory = memory.with_entries(dict(zip(seen, context.entries, strict=True)))
        calls = self.settings.micro_steps * self.settings.passes
        finished, refine_calls = None, 0
        if len(queue) == self.geometry.depth:
            oldest, *rest = queue
            queue = tuple(rest)
            finished = FinishedChunk(oldest.index, oldest.latents)
            memory = self._remember(memory, oldest)
        state = StreamState(memory, queue, state.tick + 1, state.seeds)
        if finished is not None and self._refines(finished.index):
            state = self.repair(state, finished.index, conditions.null_text)
            refine_calls = calls
        return Tick(state, finished, estimates, calls, refine_calls)

    def repair(self, state: StreamState, chunk: int, null_text: TextCache | None) -> StreamState:
        """Noise the short-term latent and repair it under reference and long-term memory alone.

        Memory Refinement, paper 2.5: it runs under the latent's own prompt and audio, and changes
        memory only, never the emitted video. ``chunk`` is the one that it is the last latent of.
        """
        memory = state.memory
        entry = memory.short_term
        assert entry.text is not None, "only generated latents are refined"
        newest = len(memory.anchors)
        context = self._context(memory, [place for place in self._seen(memory) if place < newest])
        *_, slot = self.geometry.slots(len(memory.long_term))
        levels = self.levels.repair(self.settings.refine_level)
        noise = stream_noise(state, "refine", chunk, latents=1)
        x = flow.add_noise(entry.latent, noise, levels[0])
        for now, then in pairwise(levels):
            level = x.new_full((len(x), 1), now)
            v, context = self._velocity(
                x, level, (slot,), [entry.text], context, entry.audio, null_text
            )
            x = flow.euler(x, v, now, then)
        return replace(state, memory=memory.refined(x))

    # --- the queue ------------------------------------------------------------------------------

    def _enter(self, state: StreamState, conditions: Conditions) -> tuple[QueuedChunk, ...]:
        """Noise joins the queue; chunks take the prompts now in force, the due one its audio."""
        if len(conditions.texts) != len(state.queue) + 1:
            raise ValueError(
                f"{len(conditions.texts)} prompts for {len(state.queue) + 1} chunks in the queue"
            )
        noise = stream_noise(state, "stream", state.tick, self.geometry.chunk_latents)
        entering = QueuedChunk(
            state.tick, noise, noise, conditions.texts[-1], self._null_audio(noise)
        )
        due = state.tick - self.settings.audio_lag
        return tuple(
            replace(chunk, text=text, audio=conditions.audio if chunk.index == due else chunk.audio)
            for chunk, text in zip((*state.queue, entering), conditions.texts, strict=True)
        )

    def _null_audio(self, latents: Tensor) -> Tensor | None:
        """Zero features for one chunk (design 5)."""
        config = self.model.config
        if config.audio_feature_dim is None:
            return None
        return latents.new_zeros(
            len(latents), latents.shape[2], config.audio_window, config.audio_feature_dim
        )

    def _step(
        self,
        queue: tuple[QueuedChunk, ...],
        micro_step: int,
        context: Context,
        null_text: TextCache | None,
    ) -> tuple[tuple[QueuedChunk, ...], Tensor, Context]:
        """One micro-step: every chunk of the queue down one level; and what x0 each seemed."""
        size = self.geometry.chunk_latents
        ages = range(len(queue) - 1, -1, -1)
        now = [self.levels.at(age, micro_step) for age in ages]
        then = [self.levels.at(age, micro_step + 1) for age in ages]
        x = torch.cat([chunk.latents for chunk in queue], dim=2)
        texts = [chunk.text for chunk in queue for _ in range(size)]
        heard = [chunk.audio for chunk in queue if chunk.audio is not None]
        audio = torch.cat(heard, dim=1) if heard else None
        level = torch.tensor(now, device=x.device).repeat_interleave(size).expand(len(x), -1)
        slots = self.geometry.stream_slots(len(queue))
        v, context = self._velocity(x, level, slots, texts, context, audio, null_text)
        moved, estimates = [], []
        for chunk, part, s, target in zip(queue, v.split(size, dim=2), now, then, strict=True):
            clean = flow.clean_from_velocity(chunk.latents, part, s)
            if self.settings.update is Update.renoise:
                latents = flow.add_noise(clean, chunk.noise, target)
            else:
                latents = flow.euler(chunk.latents, part, s, target)
            moved.append(replace(chunk, latents=latents))
            estimates.append(clean)
        return tuple(moved), torch.cat(estimates, dim=2), context

    # --- the model ------------------------------------------------------------------------------

    def _velocity(
        self,
        x: Tensor,
        level: Tensor,
        slots: Sequence[int],
        texts: Sequence[TextCache],
        context: Context,
        audio: Tensor | None,
        null_text: TextCache | None,
    ) -> tuple[Tensor, Context]:
        """Guided velocity of latents ``x`` [B, C, F, H, W] at ``level`` [B, F], in float32.

        Context latents that are new are encoded in the same pass.
        """
        distinct = list({id(text): text for text in texts}.values())
        stream = StreamInputs(
            x.to(self.model.dtype),
            level,
            self._positions(slots, x.device),
            distinct,
            [next(i for i, d in enumerate(distinct) if d is text) for text in texts],
            None if audio is None else audio.to(self.model.dtype),
            self._scales(x),
            None if context.reference is None else context.reference.to(self.model.dtype),
        )
        context = self._placed(context)
        if context.new is None:
            v = self.model.denoise(stream, context.placed)
        else:
            v, cache = self.model.encode_and_denoise(context.new, stream, context.placed)
            context = self._encoded(context, cache)
        if self.settings.passes == 1:
            return v.float(), context
        if null_text is None:
            raise ValueError("stream.guidance needs the empty prompt; conditions.null_text is None")
        null_audio = None if stream.audio is None else torch.zeros_like(stream.audio)
        null = replace(stream, texts=[null_text], text_of_latent=[0] * len(texts), audio=null_audio)
        context = self._placed(context)
        uncond = self.model.denoise(null, context.placed).float()
        scales = self.settings.guidance_scales
        if self.settings.passes == 2:
            return scales.together(uncond, v.float()), context
        unheard = replace(stream, audio=null_audio)
        with_text = self.model.denoise(unheard, context.placed).float()
        return scales.apart(uncond, with_text, v.float()), context

    def _scales(self, x: Tensor) -> Tensor | None:
        """Those of the samples of ``x``, [B, 2]."""
        if self.scales is None:
            return None
        return torch.tensor([self.scales], device=x.device).expand(len(x), -1)

    def _positions(self, slots: Sequence[int], device: torch.device) -> Tensor:
        return torch.tensor([self.geometry.position(slot) for slot in slots], device=device)

    # --- memory ---------------------------------------------------------------------------------

    def _seen(self, memory: Memory) -> list[int]:
        """Places, among its entries, of what the model sees of ``memory``."""
        queue = [Remembered.LONG_TERM] * len(memory.long_term)
        parts = (Remembered.REFERENCE, *queue, Remembered.SHORT_TERM)
        return [place for place, part in enumerate(parts) if part in self.settings.memory]

    def _context(self, memory: Memory, places: Sequence[int]) -> Context:
        """Memory as the next call takes it: what is kept in its slots, what is new as latents."""
        device = memory.reference.latent.device
        slots = self.geometry.slots(len(memory.long_term))
        entries = [(memory.entries[place], slots[place]) for place in places]
        kept = [(entry.cache, slot) for entry, slot in entries if entry.cache]
        new = [(entry.latent, slot) for entry, slot in entries if not entry.cache]
        placed = None
        if kept:
            joined = ContextCache.join([cache for cache, _ in kept])
            positions = self._positions([slot for _, slot in kept], device)
            placed = self.model.place_context(joined, positions)
        below = self.model.config.reference_below and 0 in places
        reference = memory.reference.latent if below else None
        if not new:
            return Context(tuple(entry for entry, _ in entries), placed, None, reference)
        latents = torch.cat([latent for latent, _ in new], dim=2).to(self.model.dtype)
        positions = self._positions([slot for _, slot in new], device)
        return Context(
            tuple(entry for entry, _ in entries), placed, (latents, positions), reference
        )

    def _encoded(self, context: Context, cache: ContextCache) -> Context:
        """``context`` once the cache of its new latents is there.

        A latent that sees only itself keeps its cache for life; joint context is a new set every
        tick.
        """
        entries = context.entries
        if self.model.config.context_attention == "self":
            caches = iter(cache.split())
            entries = tuple(e if e.cache else replace(e, cache=next(caches)) for e in entries)
        return replace(context, entries=entries, cache=cache)

    def _placed(self, context: Context) -> Context:
        """``context`` with all that is encoded in its slots."""
        if context.new is None or context.cache is None:
            return context
        placed = self.model.place_context(context.cache, context.new[1]).after(context.placed)
        return replace(context, placed=placed, new=None, cache=None)

    def _remember(self, memory: Memory, chunk: QueuedChunk) -> Memory:
        newest = MemoryLatent(
            chunk.latents[:, :, -1:],
            chunk.text,
            None if chunk.audio is None else chunk.audio[:, -1:],
        )
        keep = chunk.index % self.settings.long_term_stride == 0
        return memory.push(newest, self.geometry.long_term, keep)

    def _refines(self, chunk: int) -> bool:
        every = self.settings.refine_every
        return every > 0 and (chunk + 1) % every == 0
