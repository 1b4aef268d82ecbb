"""Which parts of a clip the stream's buffer holds at a tick: the training windows (design 4, 7).

A clip of ``chunk_frames`` c + 1 frames has c chunks. Its latent 0 is the image (frame -1 of the
stream, before the first chunk) and its latent 1 + j is stream latent j, so that the image is stream
latent -1. A window is named by its oldest chunk k and its number of chunks: chunks 0 ... k - 1 have
left, and their latents are what memory holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from flowact.data.manifest import Interval
from flowact.geometry import Geometry


class Kind(StrEnum):
    """What a window teaches (paper 2.2)."""

    CLIP_START = "clip_start"
    INTRA_PROMPT = "intra_prompt"
    CROSS_PROMPT = "cross_prompt"


@dataclass(frozen=True)
class WindowsConfig:
    """Which windows are drawn, and what is left out of them.

    Attributes:
        start: probabilities of windows of 1, 2, ... depth chunks at the start of a clip; the
            others, of depth chunks, are drawn from the rest of it.
        start_weight: of the loss of windows at the start of a clip; that of the others is 1.
        cross_prompt: probability that a window of the rest spans a change of caption, where the
            clip has one.
        other_reference: probability that the reference of a window of the rest is another frame of
            the clip than the first.
        appearance: probability that the captions of a window say first who is seen, as prompts may
            (see ``prompt_of``).
        drop_text, drop_audio, drop_both: probabilities of going without, for guidance; exclusive.

    Raises:
        ValueError: a setting is out of its range.
    """

    start: tuple[float, ...] = (0.08, 0.08, 0.08)
    start_weight: float = 1.0
    cross_prompt: float = 0.3
    other_reference: float = 0.5
    appearance: float = 0.0
    drop_text: float = 0.1
    drop_audio: float = 0.1
    drop_both: float = 0.1

    def __post_init__(self) -> None:
        dropped = (self.drop_text, self.drop_audio, self.drop_both)
        for name, odds in (
            ("start", self.start),
            ("cross_prompt", (self.cross_prompt,)),
            ("other_reference", (self.other_reference,)),
            ("appearance", (self.appearance,)),
            ("drop_text + drop_audio + drop_both", dropped),
        ):
            # Decimal fractions that sum to 1 may pass it by rounding.
            if not all(p >= 0 for p in odds) or not sum(odds) <= 1 + 1e-9:
                raise ValueError(
                    f"windows.{name} is {', '.join(map(str, odds))}; "
                    "probabilities must be 0 or more and sum to 1 at most"
                )
        if not 0 < self.start_weight < float("inf"):
            raise ValueError(f"windows.start_weight is {self.start_weight}; it must be above 0")


@dataclass(frozen=True)
class Shape:
    """Windows whose tensors are of one size in time, by what they need of a clip.

    Attributes:
        chunks: in the stream.
        first, last: their oldest chunk; None if it is bounded by the clip alone.
    """

    chunks: int
    first: int
    last: int | None

    def oldest(self, clip_chunks: int) -> range:
        """The oldest chunks that such windows of a clip may have; empty if it is too short."""
        end = clip_chunks - self.chunks
        return range(self.first, (end if self.last is None else min(self.last, end)) + 1)


def shapes(
    geometry: Geometry, long_term_stride: int, chunks: int | None = None
) -> tuple[list[Shape], list[Shape]]:
    """Shapes of the windows at the start of a clip, and of the others.

    The others differ in the long-term latents that there are by then.

    Args:
        chunks: of each window; None is 1 ... depth at the start, and depth.
    """
    sizes = range(1, geometry.depth + 1) if chunks is None else (chunks,)
    starts = [Shape(size, 0, 0) for size in sizes]
    # Long-term latent n (from 0) comes when chunk n * stride has left.
    grows = [n * long_term_stride + 1 for n in range(max(1, geometry.long_term))]
    lasts = [first - 1 for first in grows[1:]]
    return starts, [
        Shape(sizes[-1], first, last) for first, last in zip(grows, [*lasts, None], strict=True)
    ]


def memory_latents(oldest: int, geometry: Geometry, long_term_stride: int) -> tuple[int, ...]:
    """Stream latents of the memory of a window, long-term ones (oldest first), then short-term.

    They follow from ``Memory.push``: when chunk c leaves, what was the newest before it, stream
    latent ``chunk_latents * c - 1``, joins the long-term queue if c is a multiple of the stride.
    """
    size = geometry.chunk_latents
    queue = [size * chunk - 1 for chunk in range(0, oldest, long_term_stride)]
    return (*queue[max(0, len(queue) - geometry.long_term) :], size * oldest - 1)


def chunk_captions(
    intervals: Sequence[Interval], clip_chunks: int, geometry: Geometry
) -> tuple[str, ...]:
    """The caption of each chunk of a clip, in force at its prompt frame; empty in gaps."""
    frames = np.arange(clip_chunks) * geometry.chunk_frames + geometry.prompt_frame
    seconds = (frames + 1) / geometry.fps  # frame 0 of the stream is frame 1 of the clip
    return tuple(
        next((i.caption for i in intervals if i.start <= second < i.end), "") for second in seconds
    )


def prompt_of(appearance: str, caption: str) -> str:
    """A prompt that says who is seen, and then what is done; in gaps the first alone."""
    who = appearance.strip()
    if who and who[-1] not in ".!?":
        who += "."
    return " ".join(part for part in (who, caption) if part)


def kind_of(oldest: int, chunks: int, captions: Sequence[str]) -> Kind:
    """The kind of a window of a clip with these captions of its chunks."""
    if oldest == 0:
        return Kind.CLIP_START
    spans = len(set(captions[oldest : oldest + chunks])) > 1
    return Kind.CROSS_PROMPT if spans else Kind.INTRA_PROMPT


@dataclass(frozen=True)
class Choice:
    """What is drawn for a window, once its clip and shape are known.

    Attributes:
        oldest: chunk.
        reference: which of the clip's stored references; 0 is its first frame.
        drop_text, drop_audio: whether it goes without.
        appearance: whether its captions say first who is seen.
    """

    oldest: int
    reference: int
    drop_text: bool
    drop_audio: bool
    appearance: bool = False


def choose(
    shape: Shape,
    captions: Sequence[str],
    references: int,
    config: WindowsConfig,
    rng: np.random.Generator,
) -> Choice:
    """Draw a window of ``shape`` from a clip.

    Args:
        captions: of the clip's chunks.
        references: how many are stored of the clip.
    """
    crosses, picks_oldest, replaces, picks_reference, drops, tells = rng.random(6)
    candidates = shape.oldest(len(captions))
    wanted = Kind.CROSS_PROMPT if crosses < config.cross_prompt else Kind.INTRA_PROMPT
    of_kind = [k for k in candidates if kind_of(k, shape.chunks, captions) is wanted]
    oldest = _pick(of_kind or candidates, picks_oldest)
    reference = 0
    # A stream's first chunks continue its reference; only later ones can do with another.
    if oldest > 0 and references > 1 and replaces < config.other_reference:
        reference = _pick(range(1, references), picks_reference)
    text_until = config.drop_both + config.drop_text
    audio_until = text_until + config.drop_audio
    return Choice(
        oldest,
        reference,
        drop_text=bool(drops < text_until),
        drop_audio=bool(drops < config.drop_both or text_until <= drops < audio_until),
        appearance=bool(tells < config.appearance),
    )


def _pick(items: Sequence[int], u: float) -> int:
    """One of ``items``, all equally likely for a uniform ``u`` in [0, 1)."""
    return items[int(u * len(items))]
