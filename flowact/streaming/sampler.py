"""One tick of the stream: the only implementation, for sampling, training and tests (paper 2.1)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from flowact.diffusion import flow
from flowact.diffusion.levels import Levels
from flowact.geometry import Geometry
from flowact.models.caches import ContextCache, PlacedContext, TextCache
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.rng import keyed_normal
from flowact.settings import StreamSettings, Update
from flowact.streaming.memory import Memory, MemoryLatent
from flowact.streaming.state import Conditions, FinishedChunk, QueuedChunk, StreamState, Tick


class StreamSampler:
    """Moves a stream by one tick; holds weights and settings, and no state."""

    def __init__(
        self, model: FlowActTransformer3DModel, geometry: Geometry, settings: StreamSettings
    ) -> None:
        self.model = model
        self.geometry = geometry
        self.settings = settings
        self.levels = Levels(geometry.depth, settings.micro_steps, settings.shift)

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
        state = replace(state, memory=self._encoded(state.memory))
        queue = self._enter(state, conditions)
        context = self._place(
            state.memory.entries, self.geometry.slots(len(state.memory.long_term))
        )
        for micro_step in range(self.settings.micro_steps):
            queue = self._step(queue, micro_step, context, conditions.null_text)
        calls = self.settings.micro_steps * self.settings.passes
        memory, finished, refine_calls = state.memory, None, 0
        if len(queue) == self.geometry.depth:
            oldest, *rest = queue
            queue = tuple(rest)
            finished = FinishedChunk(oldest.index, oldest.latents)
            memory = self._remember(memory, oldest)
            if self._refines(oldest.index):
                memory = self._refine(state, memory, oldest.index, conditions.null_text)
                refine_calls = calls
        return Tick(
            StreamState(memory, queue, state.tick + 1, state.seeds), finished, calls, refine_calls
        )

    # --- the queue ------------------------------------------------------------------------------

    def _enter(self, state: StreamState, conditions: Conditions) -> tuple[QueuedChunk, ...]:
        """Noise joins the queue; chunks take the prompts now in force, the due one its audio."""
        if len(conditions.texts) != len(state.queue) + 1:
            raise ValueError(
                f"{len(conditions.texts)} prompts for {len(state.queue) + 1} chunks in the queue"
            )
        noise = self._noise(state, "stream", state.tick, self.geometry.chunk_latents)
        entering = QueuedChunk(
            state.tick, noise, noise, conditions.texts[-1], self._null_audio(noise)
        )
        due = state.tick - self.settings.audio_lag
        return tuple(
            replace(chunk, text=text, audio=conditions.audio if chunk.index == due else chunk.audio)
            for chunk, text in zip((*state.queue, entering), conditions.texts, strict=True)
        )

    def _noise(self, state: StreamState, purpose: str, chunk: int, latents: int) -> Tensor:
        """Noise keyed by its chunk: the same whenever, and however fast, the chunk is made."""
        like = state.memory.reference.latent
        shape = (like.shape[1], latents, *like.shape[3:])
        draws = [keyed_normal(shape, seed, purpose, chunk) for seed in state.seeds]
        return torch.stack(draws).to(like.device)

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
        context: PlacedContext,
        null_text: TextCache | None,
    ) -> tuple[QueuedChunk, ...]:
        """One micro-step: every chunk of the queue down one level."""
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
        v = self._velocity(x, level, slots, texts, context, audio, null_text)
        moved = []
        for chunk, part, s, target in zip(queue, v.split(size, dim=2), now, then, strict=True):
            if self.settings.update is Update.renoise:
                clean = flow.clean_from_velocity(chunk.latents, part, s)
                latents = flow.add_noise(clean, chunk.noise, target)
            else:
                latents = flow.euler(chunk.latents, part, s, target)
            moved.append(replace(chunk, latents=latents))
        return tuple(moved)

    # --- the model ------------------------------------------------------------------------------

    def _velocity(
        self,
        x: Tensor,
        level: Tensor,
        slots: Sequence[int],
        texts: Sequence[TextCache],
        context: PlacedContext,
        audio: Tensor | None,
        null_text: TextCache | None,
    ) -> Tensor:
        """Guided velocity of latents ``x`` [B, C, F, H, W] at ``level`` [B, F], in float32."""
        dtype = self.model.dtype
        distinct = list({id(text): text for text in texts}.values())
        where = [next(i for i, d in enumerate(distinct) if d is text) for text in texts]
        positions = self._positions(slots, x.device)
        scales = None
        if self.settings.text_scale is not None:
            pair = (self.settings.text_scale, self.settings.audio_scale)
            scales = torch.tensor([pair], device=x.device).expand(len(x), -1)
        latents = x.to(dtype)
        audio = None if audio is None else audio.to(dtype)
        v = self.model.denoise(
            latents, level, positions, distinct, where, context, audio, scales
        ).float()
        if self.settings.passes == 1:
            return v
        if null_text is None:
            raise ValueError("stream.guidance needs the empty prompt; conditions.null_text is None")
        null_audio = None if audio is None else torch.zeros_like(audio)
        nowhere = [0] * len(where)
        uncond = self.model.denoise(
            latents, level, positions, [null_text], nowhere, context, null_audio, scales
        ).float()
        return uncond + self.settings.guidance * (v - uncond)

    def _positions(self, slots: Sequence[int], device: torch.device) -> Tensor:
        return torch.tensor([self.geometry.position(slot) for slot in slots], device=device)

    # --- memory ---------------------------------------------------------------------------------

    def _encoded(self, memory: Memory) -> Memory:
        """Fill in the caches of latents that are new since the last tick."""
        if self.model.config.context_attention == "joint":
            return memory
        done: dict[int, MemoryLatent] = {}

        def encode(entry: MemoryLatent) -> MemoryLatent:
            if entry.cache is not None:
                return entry
            if id(entry) not in done:
                done[id(entry)] = replace(entry, cache=self._encode((entry,), (0,)))
            return done[id(entry)]

        return Memory(
            encode(memory.reference),
            tuple(encode(entry) for entry in memory.long_term),
            encode(memory.short_term),
        )

    def _encode(self, entries: Sequence[MemoryLatent], slots: Sequence[int]) -> ContextCache:
        latents = torch.cat([entry.latent for entry in entries], dim=2)
        positions = self._positions(slots, latents.device)
        return self.model.encode_context(latents.to(self.model.dtype), positions)

    def _place(self, entries: Sequence[MemoryLatent], slots: Sequence[int]) -> PlacedContext:
        caches = [entry.cache for entry in entries if entry.cache is not None]
        # Joint context is a new set every tick; a latent that sees only itself is kept for life.
        joined = ContextCache.join(caches) if caches else self._encode(entries, slots)
        return self.model.place_context(joined, self._positions(slots, joined.latents.device))

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

    def _refine(
        self, state: StreamState, memory: Memory, chunk: int, null_text: TextCache | None
    ) -> Memory:
        """Noise the short-term latent and repair it under reference and long-term memory alone.

        Memory Refinement, paper 2.5: it runs under the latent's own prompt and audio, and changes
        memory only, never the emitted video.
        """
        entry = memory.short_term
        assert entry.text is not None, "only generated latents are refined"
        *anchors, slot = self.geometry.slots(len(memory.long_term))
        context = self._place(memory.anchors, anchors)
        levels = self.levels.repair(self.settings.refine_level)
        noise = self._noise(state, "refine", chunk, latents=1)
        x = flow.add_noise(entry.latent, noise, levels[0])
        for now, then in pairwise(levels):
            level = x.new_full((len(x), 1), now)
            v = self._velocity(x, level, (slot,), [entry.text], context, entry.audio, null_text)
            x = flow.euler(x, v, now, then)
        return memory.refined(x)
