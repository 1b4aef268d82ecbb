"""Rates, strides and slot counts: the only home of these numbers (paper 2.1, 2.3)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Time and space of one stream. Everything else about shapes in time is derived from it.

    Output frame ``f`` shows audio samples ``[640 f, 640 f + 640)``; stream latent ``j >= 0`` is
    frames and audio features ``4j ... 4j + 3``. The reference image is frame -1: it opens the
    decoder, its frame is dropped, and it has no audio.

    Attributes:
        fps: video frames, and audio features, per second.
        sample_rate: audio samples per second, mono.
        temporal_stride: frames per latent (the first latent of a clip is one frame).
        spatial_stride: pixels per latent cell, along each side.
        chunk_latents: latents per chunk, the unit that enters and leaves the stream.
        depth: chunks being denoised at once; also the segments of the noise schedule.
        long_term: latents the long-term memory queue holds at most.
        window_left, window_right: audio features beyond its own that condition a latent.
        lookahead: audio features beyond the window that the extractor hears.
        reference_slot: place of the reference on the model's time axis; None puts it one chunk
            before the oldest long-term latent.
    """

    fps: int = 25
    sample_rate: int = 16_000
    temporal_stride: int = 4
    spatial_stride: int = 16
    chunk_latents: int = 3
    depth: int = 3
    long_term: int = 3
    window_left: int = 2
    window_right: int = 2
    lookahead: int = 2
    reference_slot: int | None = None

    def __post_init__(self) -> None:
        spans = ("temporal_stride", "spatial_stride", "chunk_latents", "depth")
        for name in ("fps", "sample_rate", *spans):
            if getattr(self, name) < 1:
                raise ValueError(f"geometry.{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("long_term", "window_left", "window_right", "lookahead"):
            if getattr(self, name) < 0:
                raise ValueError(f"geometry.{name} is {getattr(self, name)}; it must be 0 or more")
        if self.sample_rate % self.fps:
            raise ValueError(
                f"geometry.sample_rate {self.sample_rate} is not a multiple of fps {self.fps}"
            )
        taken = (*self.slots(self.long_term)[1:], *self.stream_slots(self.depth))
        if self.reference_slot in taken:
            raise ValueError(
                f"geometry.reference_slot is {self.reference_slot}, a slot of memory or stream; "
                f"those are {', '.join(map(str, taken))}"
            )

    @property
    def frame_samples(self) -> int:
        """Audio samples per video frame and per audio feature."""
        return self.sample_rate // self.fps

    @property
    def chunk_frames(self) -> int:
        return self.chunk_latents * self.temporal_stride

    @property
    def chunk_samples(self) -> int:
        return self.chunk_frames * self.frame_samples

    @property
    def chunk_seconds(self) -> float:
        return self.chunk_frames / self.fps

    @property
    def stream_latents(self) -> int:
        return self.depth * self.chunk_latents

    @property
    def buffer_latents(self) -> int:
        """Most latents in one call: reference, long-term, short-term and stream (paper 2.1)."""
        return 2 + self.long_term + self.stream_latents

    @property
    def latent_window(self) -> int:
        """Audio features that condition one latent."""
        return self.window_left + self.temporal_stride + self.window_right

    @property
    def chunk_window(self) -> int:
        """Audio features that condition one chunk, its latents' windows overlapping."""
        return self.window_left + self.chunk_frames + self.window_right

    @property
    def prompt_frame(self) -> int:
        """The frame of a chunk whose prompt is the chunk's."""
        return self.chunk_frames // 2

    def chunks(self, frames: int) -> int:
        """Chunks that hold ``frames`` output frames."""
        return -(-frames // self.chunk_frames)

    def frames(self, samples: int) -> int:
        """Output frames that show ``samples`` audio samples, at least one; the last is padded."""
        return max(1, -(-samples // self.frame_samples))

    def audio_end(self, chunk: int) -> int:
        """Samples that must have arrived before the audio of ``chunk`` can be extracted."""
        return (chunk + 1) * self.chunk_samples + (
            self.window_right + self.lookahead
        ) * self.frame_samples

    # Slots: positions on the model's time axis, relative to the newest finished latent, so that
    # no table grows with the length of the stream.

    def slots(self, long_term: int) -> tuple[int, ...]:
        """Slots of reference, ``long_term`` latents (oldest first) and short-term latent."""
        queue = (-self.chunk_latents * age for age in range(long_term, 0, -1))
        return (self._reference, *queue, 0)

    def stream_slots(self, chunks: int) -> tuple[int, ...]:
        """Slots of ``chunks`` chunks in the stream, oldest first."""
        return tuple(range(1, chunks * self.chunk_latents + 1))

    def position(self, slot: int) -> int:
        """A slot as the model's rotary position: shifted so that none is negative."""
        return slot - min(self._reference, -self.chunk_latents * self.long_term)

    @property
    def _reference(self) -> int:
        if self.reference_slot is not None:
            return self.reference_slot
        return -self.chunk_latents * (self.long_term + 1)
