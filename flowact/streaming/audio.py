"""Streaming audio: samples in as they come, the features of one chunk after another out.

The same extractor serves training and streaming. It hears a ring of fixed length that ends a fixed
time after the chunk, so a chunk always sits at the same place in it, and neither the way the audio
was cut into pushes nor the 30 s of Whisper leaves a trace.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from flowact.geometry import Geometry
from flowact.models.audio_encoder import RING_SECONDS, AudioEncoder
from flowact.streaming.loudness import LoudnessMeter, LoudnessState


@dataclass(frozen=True)
class AudioState:
    """What a stream of audio has come to; ``push`` and ``end`` return a new one.

    Attributes:
        ring: [B, ring samples], the newest samples that the last extraction heard.
        pending: samples after those, [B, frame_samples] each; the last may be shorter.
        frame_samples: samples per audio feature.
        received: samples pushed so far.
        ended: no more will come: silence follows.
        chunk: the next chunk to extract.
        loudness: of all samples heard so far.
    """

    ring: Tensor
    pending: tuple[Tensor, ...]
    frame_samples: int
    received: int
    ended: bool
    chunk: int
    loudness: LoudnessState

    def push(self, samples: Tensor) -> "AudioState":
        """Append ``samples``, floats [n] or [B, n] in [-1, 1] at the geometry's rate.

        Raises:
            ValueError: a shape, type or value that is no such audio, or the audio has ended.
        """
        samples = samples[None] if samples.ndim == 1 else samples
        if samples.shape[:-1] != self.ring.shape[:-1] or not samples.is_floating_point():
            raise ValueError(
                f"audio is {samples.dtype} of shape {list(samples.shape)}; "
                f"push floats of shape [{len(self.ring)}, samples]"
            )
        if not samples.isfinite().all():
            raise ValueError("audio has non-finite samples; remove them before pushing")
        if self.ended:
            raise ValueError("audio was pushed after its end; start a new state")
        joined = torch.cat([*self.pending[-1:], samples.float()], dim=-1)
        # Copies, so that a frame does not keep the whole of a long push alive once it is heard.
        frames = tuple(frame.clone() for frame in torch.split(joined, self.frame_samples, -1))
        return replace(
            self,
            pending=self.pending[:-1] + frames,
            received=self.received + samples.shape[-1],
        )

    def end(self) -> "AudioState":
        return replace(self, ended=True)


class AudioExtractor:
    """Features of chunk after chunk from an ``AudioState``.

    Args:
        encoder: what turns the ring into features.
        geometry: the stream's.
        ring_seconds: how far back the encoder hears.

    Raises:
        ValueError: encoder and geometry differ in their rates, or the ring is no whole number of
            features or too short for a chunk.
    """

    def __init__(
        self, encoder: AudioEncoder, geometry: Geometry, ring_seconds: float = RING_SECONDS
    ) -> None:
        rates = (geometry.sample_rate, geometry.frame_samples)
        if (encoder.sample_rate, encoder.frame_samples) != rates:
            raise ValueError(
                f"geometry has {geometry.sample_rate} Hz and {geometry.frame_samples} samples per "
                f"feature; the audio encoder needs {encoder.sample_rate} and "
                f"{encoder.frame_samples}"
            )
        self.encoder = encoder
        self.geometry = geometry
        self.meter = LoudnessMeter(geometry.sample_rate, geometry.frame_samples)
        self.ring_samples = round(ring_seconds * geometry.sample_rate)
        needed = geometry.audio_end(0) + self.meter.history
        if self.ring_samples % geometry.frame_samples or self.ring_samples < needed:
            raise ValueError(
                f"ring_seconds is {ring_seconds}; it must be a multiple of {1 / geometry.fps} "
                f"and at least {needed / geometry.sample_rate}"
            )

    def start(self, batch_size: int = 1) -> AudioState:
        """The state before any audio: a ring of silence."""
        return AudioState(
            ring=torch.zeros(batch_size, self.ring_samples),
            pending=(),
            frame_samples=self.geometry.frame_samples,
            received=0,
            ended=False,
            chunk=0,
            loudness=self.meter.start(batch_size),
        )

    def ready(self, state: AudioState, chunk: int) -> bool:
        """Whether all that ``chunk`` may hear is there, or no more will come."""
        return state.ended or state.received >= self.geometry.audio_end(chunk)

    def extract(self, state: AudioState, chunk: int) -> tuple[Tensor, AudioState]:
        """Features [B, chunk_latents, latent_window, D] of ``chunk``, and the state after it.

        Latent j has features 4j - 2 ... 4j + 5; those before feature 0 are null, that is zero.

        Raises:
            ValueError: ``chunk`` is not the state's next one, or not ready.
        """
        if chunk != state.chunk or not self.ready(state, chunk):
            raise ValueError(
                f"chunk {chunk} cannot be extracted: the next is {state.chunk}, and "
                f"{state.received} of {self.geometry.audio_end(chunk)} samples are there"
            )
        state = self._hear(state)
        return self.windows(self.encoder(self._levelled(state)), chunk), state

    def features_of(self, wave: Tensor, n_chunks: int) -> Tensor:
        """Features [B, n_chunks * chunk_latents, latent_window, D] of a whole clip.

        Args:
            wave: [n] or [B, n]; silence follows it where the chunks are longer.
        """
        state = self.start(1 if wave.ndim == 1 else len(wave)).push(wave).end()
        chunks = []
        for chunk in range(n_chunks):
            features, state = self.extract(state, chunk)
            chunks.append(features)
        return torch.cat(chunks, dim=1)

    def heard(self, wave: Tensor, chunk: int) -> Tensor:
        """What the encoder is given for ``chunk`` of a whole clip, [B, ring samples].

        Args:
            wave: as for ``features_of``.
        """
        state = self.start(1 if wave.ndim == 1 else len(wave)).push(wave).end()
        for _ in range(chunk + 1):
            state = self._hear(state)
        return self._levelled(state)

    def _levelled(self, state: AudioState) -> Tensor:
        return state.ring * self.meter.gain(state.loudness)[:, None]

    def _hear(self, state: AudioState) -> AudioState:
        """Move the samples of the state's next chunk from ``pending`` to ring and loudness."""
        geometry = self.geometry
        start = geometry.audio_end(state.chunk - 1) if state.chunk else 0
        n_new = geometry.audio_end(state.chunk) - start
        n_frames = n_new // geometry.frame_samples
        heard = torch.cat([state.ring[:, n_new:], *state.pending[:n_frames]], dim=-1)
        ring = F.pad(heard, (0, self.ring_samples - heard.shape[-1]))
        return replace(
            state,
            ring=ring,
            pending=state.pending[n_frames:],
            chunk=state.chunk + 1,
            loudness=self.meter.update(state.loudness, ring[:, -(self.meter.history + n_new) :]),
        )

    def windows(self, features: Tensor, chunk: int, chunks: int = 1) -> Tensor:
        """Cut ``features`` [B, ring features, D] to the windows of the latents of ``chunk``.

        Args:
            features: of what is heard for ``chunk``.
            chunks: that and so many before it; they must lie in the ring.

        Returns:
            [B, chunks * chunk_latents, latent_window, D].
        """
        geometry, earlier = self.geometry, (chunks - 1) * self.geometry.chunk_frames
        stop = features.shape[1] - geometry.lookahead
        n_null = max(0, geometry.window_left - chunk * geometry.chunk_frames + earlier)
        known = features[:, stop - geometry.chunk_window - earlier + n_null : stop]
        window = F.pad(known, (0, 0, n_null, 0))
        per_latent = window.unfold(1, geometry.latent_window, geometry.temporal_stride)
        return rearrange(per_latent, "b latent d window -> b latent window d")
