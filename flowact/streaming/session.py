"""One stream from image and audio to frames: three values and the pure functions that move them."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowact.models.caches import TextCache
from flowact.models.text_encoder import PromptCache
from flowact.models.vae import Cache, VideoAutoencoder
from flowact.streaming.audio import AudioExtractor, AudioState
from flowact.streaming.prompts import PromptSource
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.state import Conditions, FinishedChunk, StreamState, Tick


@dataclass(frozen=True)
class Snapshot:
    """A session at a moment: restored, it gives the same frames again, bit for bit.

    Attributes:
        stream, audio, decoder: the three states.
        waiting: finished chunks that are not decoded yet.
    """

    stream: StreamState
    audio: AudioState
    decoder: Cache
    waiting: tuple[FinishedChunk, ...]


class Session:
    """A stream in progress. Two sessions share weights and nothing that changes.

    ``tick`` and ``decode`` touch different states and may run in two threads; ``push``, ``end``
    and ``tick`` belong to one.

    Args:
        sampler, extractor, autoencoder: the pieces, shared between sessions.
        texts: prompts, encoded once each.
        prompts: which prompt a chunk has.
        reference: the image as a one-frame clip, [B, 3, 1, H, W] in [-1, 1].
        seeds: one a sample of the batch.
    """

    def __init__(
        self,
        sampler: StreamSampler,
        extractor: AudioExtractor,
        autoencoder: VideoAutoencoder,
        texts: PromptCache[TextCache],
        prompts: PromptSource,
        reference: Tensor,
        seeds: Sequence[int],
    ) -> None:
        self.started = time.perf_counter()
        self.sampler = sampler
        self.geometry = sampler.geometry
        self.extractor = extractor
        self.autoencoder = autoencoder
        self.texts = texts
        self.prompts = prompts
        with torch.inference_mode():
            latent = autoencoder.encode(reference.to(autoencoder.device))
            self._stream = sampler.start(latent.to(sampler.model.device), seeds)
            self._audio = extractor.start(len(seeds))
            # The decoder is opened by the image's own latent; that frame is the input, not output.
            _, self._decoder = autoencoder.decode(latent)
        self._waiting: deque[FinishedChunk] = deque()

    # --- audio in ---------------------------------------------------------------------------------

    def push(self, samples: Tensor) -> None:
        """Append audio, float32 [B, n], or [n] for all samples, at the geometry's rate."""
        batch = len(self._stream.seeds)
        samples = samples.expand(batch, -1) if samples.ndim == 1 else samples
        self._audio = self._audio.push(samples)
        self.prompts.hear(samples)

    def end(self) -> None:
        """No more audio will come; the stream ends with it."""
        self._audio = self._audio.end()

    # --- chunks out -------------------------------------------------------------------------------

    @property
    def frames(self) -> int | None:
        """Frames of the whole video; None until the audio has ended."""
        return self.geometry.frames(self._audio.received) if self._audio.ended else None

    @property
    def done(self) -> bool:
        """Whether every chunk has left the stream: n chunks take n + depth - 1 ticks."""
        if self.frames is None:
            return False
        return self._stream.tick >= self.geometry.chunks(self.frames) + self.geometry.depth - 1

    @property
    def ready(self) -> bool:
        """Whether the next tick can run: its audio is there, or has ended."""
        due = self._stream.tick - self.sampler.settings.audio_lag
        return due < 0 or self.extractor.ready(self._audio, due)

    @torch.inference_mode()
    def conditions(self) -> Conditions:
        """What the next tick is told: audio features and prompts, each encoded once."""
        stream, sampler = self._stream, self.sampler
        chunks = [*(chunk.index for chunk in stream.queue), stream.tick]
        texts = tuple(self.texts[self.prompts.at(chunk)] for chunk in chunks)
        null = self.texts[""] if sampler.settings.passes > 1 else None
        due, audio = stream.tick - sampler.settings.audio_lag, None
        if due >= 0:
            features, self._audio = self.extractor.extract(self._audio, due)
            if sampler.model.config.audio_feature_dim is not None:
                audio = features.to(sampler.model.device)
        return Conditions(texts, audio, null)

    @torch.inference_mode()
    def tick(self, conditions: Conditions) -> Tick:
        """Run one tick; a chunk that finishes waits to be decoded."""
        tick = self.sampler.tick(self._stream, conditions)
        if self.sampler.model.device.type == "cuda":
            torch.cuda.synchronize(self.sampler.model.device)  # so that its time is its own
        self._stream = tick.state
        if tick.finished is not None:
            self._waiting.append(tick.finished)
        return tick

    @torch.inference_mode()
    def decode(self) -> Tensor:
        """Frames of the oldest chunk that waits, cut where the video ends.

        Returns:
            uint8 [B, F, H, W, 3], on the CPU.

        Raises:
            IndexError: none waits.
        """
        chunk = self._waiting[0]
        latents = chunk.latents.to(self.autoencoder.device)
        frames, self._decoder = self.autoencoder.decode(latents, self._decoder)
        self._waiting.popleft()
        scaled = frames[:, :, : self._wanted(chunk.index)].float().add(1).mul(127.5).round()
        return scaled.to(torch.uint8).permute(0, 2, 3, 4, 1).cpu()

    def run(self) -> Iterator[Tensor]:
        """Frames for as long as the audio that was pushed allows, one chunk at a time."""
        while self._waiting or (not self.done and self.ready):
            if not self._waiting:
                self.tick(self.conditions())
            else:
                yield self.decode()

    def _wanted(self, chunk: int) -> int:
        """Frames of ``chunk`` that belong to the video: fewer at the end of the audio."""
        if self.frames is None:
            return self.geometry.chunk_frames
        return min(self.geometry.chunk_frames, self.frames - chunk * self.geometry.chunk_frames)

    # --- snapshots --------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The session as a value. Not while another thread runs it."""
        return Snapshot(self._stream, self._audio, self._decoder, tuple(self._waiting))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back, or over, to ``snapshot``."""
        self._stream, self._audio = snapshot.stream, snapshot.audio
        self._decoder, self._waiting = snapshot.decoder, deque(snapshot.waiting)
