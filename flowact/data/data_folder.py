"""The windows of preprocessed folders, as tensors (design 2, 4, 7, 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowact.data.manifest import Clip, read_manifest
from flowact.data.store import CacheReader
from flowact.data.windows import (
    Choice,
    Kind,
    WindowsConfig,
    chunk_captions,
    kind_of,
    memory_latents,
    prompt_of,
)
from flowact.geometry import Geometry


@dataclass(frozen=True)
class WindowInfo:
    """What a window is.

    Attributes:
        clip: its id.
        oldest: its oldest chunk.
        kind: what it teaches.
        weight: of its loss.
        captions: its prompts, one a chunk, oldest first; empty for none.
        memory_caption: the prompt of the chunk that the short-term latent ends, for its repair;
            empty for the image.
        memory: stream latents of the context after the reference, so that others of the same
            clip can be put in their place; -1 is the image.
        reference: which of the clip's stored references its context begins with.
        drop_text: the captions are to be left out, and are empty here.
        drop_audio: the audio is to be left out, and is zero here.
    """

    clip: str
    oldest: int
    kind: Kind
    weight: float
    captions: tuple[str, ...]
    memory_caption: str
    memory: tuple[int, ...]
    reference: int
    drop_text: bool
    drop_audio: bool


@dataclass(frozen=True)
class Windows:
    """A batch of windows of one shape.

    Attributes:
        stream: clean latents of the chunks in the stream, [B, C, F, H, W].
        context: of the reference, the long-term memory (oldest first) and the short-term one, in
            the order of ``Geometry.slots``, [B, C, S, H, W].
        short_term: of the clip itself, whatever the context holds there: what a repair leads to,
            [B, C, 1, H, W].
        audio: features of the stream's latents, [B, F, window, D]; None if none were asked for.
        memory_audio: of the short-term latent, for its repair, [B, 1, window, D]; zero for the
            image, which has none.
        focus: where their clips move, and move with the sound (see ``focus_maps``), [B, 2, H, W].
        infos: one a window.
    """

    stream: Tensor
    context: Tensor
    short_term: Tensor
    audio: Tensor | None
    memory_audio: Tensor | None
    focus: Tensor
    infos: tuple[WindowInfo, ...]

    @classmethod
    def joined(cls, parts: Sequence["Windows"]) -> "Windows":
        """One batch of several of the same shape: the ``collate_fn`` for ``DataLoader``."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            items = [getattr(part, f.name) for part in parts]
            if f.name == "infos":
                values[f.name] = tuple(info for infos in items for info in infos)
            else:
                values[f.name] = None if items[0] is None else torch.cat(items)
        return cls(**values)

    def to(self, device: torch.device) -> "Windows":
        """The same batch on another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors: dict[str, Any] = {
            name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **tensors)


class DataFolder:
    """A preprocessed folder.

    Args:
        path: with the manifest and the caches.
        geometry: what the caches must fit.
        audio: whether features are read.
        made_by: of ``latents`` and ``features``, what must have made the caches.
        long_term_stride: of the stream (see ``StreamSettings``).

    Attributes:
        clips: in the order of the manifest.
        chunks: of each clip.
        sizes: of each clip, latent height and width.

    Raises:
        ValueError: the manifest or a cache is missing or damaged, is another than ``made_by``,
            does not fit the geometry, or lacks a clip.
    """

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        audio: bool = True,
        made_by: Mapping[str, Mapping[str, Any]] | None = None,
        long_term_stride: int = 1,
    ) -> None:
        made_by = made_by or {}
        self.path = path
        self.geometry = geometry
        self.long_term_stride = long_term_stride
        self.clips = read_manifest(path)
        self.latents = CacheReader(path, "latents", made_by.get("latents"))
        self.features = CacheReader(path, "features", made_by.get("features")) if audio else None
        latents = _shapes(self.latents, "latents")
        features = _shapes(self.features, "features") if self.features else None
        self.chunks: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        for clip in self.clips:
            for kind, shapes in (("latents", latents), ("features", features)):
                if shapes is not None and clip.id not in shapes:
                    raise ValueError(
                        f"{path}: clip {clip.id} has no {kind}; run scripts/preprocess.py again"
                    )
            _, n_latents, height, width = latents[clip.id]
            self.chunks.append(self._checked_chunks(clip, n_latents))
            self.sizes.append((height, width))
            if features is not None:
                self._check_features(clip, features[clip.id][:2], n_latents - 1)

    def captions(self, clip: int) -> tuple[str, ...]:
        """Of the chunks of a clip, by its number."""
        return chunk_captions(self.clips[clip].intervals, self.chunks[clip], self.geometry)

    def references(self, clip: int) -> int:
        """How many references are stored of a clip."""
        return self.latents.shape(self.clips[clip].id, "references")[1]

    def window(self, clip: int, chunks: int, choice: Choice, config: WindowsConfig) -> Windows:
        """The window of ``chunks`` chunks that was chosen, as a batch of one."""
        size, oldest = self.geometry.chunk_latents, choice.oldest
        memory = memory_latents(oldest, self.geometry, self.long_term_stride)
        captions = self.captions(clip)
        kind = kind_of(oldest, chunks, captions)
        told = ("", *self._prompts(clip, captions, choice))[oldest:][: chunks + 1]  # image first
        id = self.clips[clip].id
        reference = slice(choice.reference, choice.reference + 1)
        context = [
            self.latents.read(id, "references", (slice(None), reference)),
            *(self._read_latents(id, latent, latent + 1) for latent in memory),
        ]
        audio = self._audio(id, size * oldest - 1, size * (oldest + chunks), choice.drop_audio)
        info = WindowInfo(
            clip=id,
            oldest=oldest,
            kind=kind,
            weight=config.start_weight if kind is Kind.CLIP_START else 1.0,
            captions=tuple(told[1:]),
            memory_caption=told[0],
            memory=memory,
            reference=choice.reference,
            drop_text=choice.drop_text,
            drop_audio=choice.drop_audio,
        )
        return Windows(
            stream=self._read_latents(id, size * oldest, size * (oldest + chunks))[None],
            context=torch.cat(context, dim=1)[None],
            short_term=context[-1][None],
            audio=None if audio is None else audio[None, 1:],
            memory_audio=None if audio is None else audio[None, :1],
            focus=self.latents.read(id, "focus")[None],
            infos=(info,),
        )

    def _prompts(self, clip: int, captions: Sequence[str], choice: Choice) -> Sequence[str]:
        """What is told of chunks with these captions."""
        if choice.drop_text:
            return [""] * len(captions)
        if choice.appearance:
            return [prompt_of(self.clips[clip].appearance, caption) for caption in captions]
        return captions

    def _read_latents(self, id: str, start: int, stop: int) -> Tensor:
        """Stream latents ``start`` to ``stop`` of a clip, whose own first one is the image."""
        return self.latents.read(id, "latents", (slice(None), slice(start + 1, stop + 1)))

    def _audio(self, id: str, start: int, stop: int, drop: bool) -> Tensor | None:
        """Features of stream latents ``start`` to ``stop``, null for the image and if dropped."""
        if self.features is None:
            return None
        audio = self.features.read(id, "features", (slice(max(0, start), stop),))
        null = audio.new_zeros(stop - start, *audio.shape[1:])
        return null if drop else torch.cat([null[: max(0, -start)], audio])

    def _checked_chunks(self, clip: Clip, n_latents: int) -> int:
        geometry = self.geometry
        chunks, left = divmod(n_latents - 1, geometry.chunk_latents)
        if left or clip.frames != chunks * geometry.chunk_frames + 1:
            raise ValueError(
                f"{self.path}: clip {clip.id} has {clip.frames} frames and {n_latents} latents; "
                f"{geometry.chunk_frames} c + 1 and {geometry.chunk_latents} c + 1 are wanted: "
                "run scripts/preprocess.py with this model"
            )
        return chunks

    def _check_features(self, clip: Clip, found: tuple[int, ...], n_latents: int) -> None:
        wanted = (n_latents, self.geometry.latent_window)
        if found != wanted:
            raise ValueError(
                f"{self.path}: clip {clip.id} has features {list(found)}; {list(wanted)} are "
                "wanted: run scripts/preprocess.py with this model"
            )


def _shapes(cache: CacheReader, name: str) -> dict[str, tuple[int, ...]]:
    """Of each clip's tensor; in the order of the cache's files, so that each is opened once."""
    return {id: cache.shape(id, name) for id in cache.ids}
