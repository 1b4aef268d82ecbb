"""Who attends to whom: fake-causal attention as separate calls, never as a mask (paper 2.2).

Video tokens are [B, F, N, heads, head_dim] (latents, tokens of a latent), text tokens are
[B, L, heads, head_dim]. Calls instead of masks are exact, work on every backend, and cost less:
text attends to text; context (reference and memory) to context; the stream to its own prompt,
all context and itself. Nothing attends to the stream but the stream.

A layer is ``full`` (every token of every latent, and text), ``spatial`` (within a latent, and
text) or ``temporal`` (windows of rows x columns across all latents, no text).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from flowact.models.attention_backends import run_backend
from flowact.models.attention_by_heads import attend_by_heads
from flowact.settings import AttentionBackend, LayerKind

NATIVE = AttentionBackend.native


class KeyValue(NamedTuple):
    """Keys and values of video, [B, F, N, heads, head_dim] each."""

    key: Tensor
    value: Tensor

    def of(self, latents: slice) -> "KeyValue":
        """Those of some of the F latents."""
        return KeyValue(self.key[:, latents], self.value[:, latents])

    def split(self, latents: tuple[int, int]) -> "tuple[KeyValue, KeyValue]":
        """Those of the first and of the last latents, so many of each."""
        keys, values = self.key.split(latents, dim=1), self.value.split(latents, dim=1)
        return KeyValue(keys[0], values[0]), KeyValue(keys[1], values[1])

    def before(self, others: "KeyValue") -> "KeyValue":
        """These latents, then ``others``."""
        return KeyValue(
            torch.cat((self.key, others.key), dim=1), torch.cat((self.value, others.value), dim=1)
        )


class TextKeyValue(NamedTuple):
    """Those of a prompt, [B, L, heads, head_dim], and which are real ([B, L], None if all are)."""

    key: Tensor
    value: Tensor
    mask: Tensor | None


class Grid(NamedTuple):
    """Token rows and columns of a latent, and the windows a temporal layer cuts them into."""

    rows: int
    columns: int
    windows: tuple[int, int]


# On a CPU, two matrix products and a softmax beat the fused kernel up to about this many scores,
# and more so on the way back: see ``attend_by_heads``.
SMALL_ON_CPU = {torch.float32: 1 << 20, torch.bfloat16: 1 << 25}


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    backend: AttentionBackend = NATIVE,
) -> Tensor:
    """Attention over [B, S, heads, head_dim] by ``backend``; calls with a mask go to ``native``.

    ``mask`` is True where a key may be seen, [B, keys].
    """
    if mask is None and backend is not NATIVE:
        return run_backend(backend, query, key, value)
    batch, length, heads, _ = query.shape
    scores = batch * heads * length * key.shape[1]
    if query.device.type == "cpu" and scores <= SMALL_ON_CPU.get(value.dtype, 0):
        return attend_by_heads(query, key, value, mask)
    if mask is not None:
        mask = mask[:, None, None, :]
    return run_backend(NATIVE, query, key, value, mask)


def text_attention(query: Tensor, own: TextKeyValue, backend: AttentionBackend = NATIVE) -> Tensor:
    """Text to text: were it to see the stream, the stream would leak into memory through it."""
    return attend(query, own.key, own.value, own.mask, backend)


def context_attention(
    query: Tensor,
    own: KeyValue,
    kind: LayerKind,
    grid: Grid,
    joint: bool,
    backend: AttentionBackend = NATIVE,
) -> Tensor:
    """Context to context: each latent to itself, or all latents to one another if ``joint``."""
    latents = query.shape[1]
    if not joint or kind is LayerKind.SPATIAL:
        query, own = _fold(query), KeyValue(_fold(own.key), _fold(own.value))
    if kind is LayerKind.TEMPORAL:
        out = _windowed(query, own, grid, backend)
    else:
        out = _among(query, own, backend)
    return out.reshape(-1, latents, *out.shape[2:])


def stream_attention(
    query: Tensor,
    own: KeyValue,
    seen: KeyValue,
    texts: Sequence[TextKeyValue],
    text_of_latent: Sequence[int],
    kind: LayerKind,
    grid: Grid,
    backend: AttentionBackend = NATIVE,
) -> Tensor:
    """Stream to its own prompt, all context and the whole stream; one call per run of a prompt.

    Args:
        query: [B, F, N, heads, head_dim], rotated, as are the keys.
        own: the stream's keys and values; what a spatial layer sees of them is a latent's own.
        seen: those of all context latents and of the stream; spatial layers do not use them.
        texts: a prompt's keys and values each; temporal layers do not use them.
        text_of_latent: for each of the F latents, the index of its prompt in ``texts``.
        backend: the kernel.
    """
    if kind is LayerKind.TEMPORAL:
        return _windowed(query, seen, grid, backend)
    outputs = []
    runs = _runs(tuple(text_of_latent))
    queries = query.split([latents.stop - latents.start for _, latents in runs], dim=1)
    for (index, latents), some in zip(runs, queries, strict=True):
        if kind is LayerKind.SPATIAL:
            outputs.append(_within_latents(some, own.of(latents), texts[index], backend))
        else:
            outputs.append(_with_text(some, seen, texts[index], backend))
    return torch.cat(outputs, dim=1)


def joint_attention(
    video_query: Tensor,
    video: KeyValue,
    text_query: Tensor,
    text: TextKeyValue,
    backend: AttentionBackend = NATIVE,
) -> tuple[Tensor, Tensor]:
    """Everything to everything, in one call: the base model's attention, and an ablation."""
    latents, tokens = video_query.shape[1:3]
    query = torch.cat((video_query.flatten(1, 2), text_query), dim=1)
    key = torch.cat((video.key.flatten(1, 2), text.key), dim=1)
    value = torch.cat((video.value.flatten(1, 2), text.value), dim=1)
    out = attend(query, key, value, _key_mask(latents * tokens, text.mask), backend)
    video_out, text_out = out.split((latents * tokens, text_query.shape[1]), dim=1)
    return video_out.unflatten(1, (latents, tokens)), text_out


def _among(query: Tensor, video: KeyValue, backend: AttentionBackend) -> Tensor:
    """Every query to all video tokens."""
    key, value = video.key.flatten(1, 2), video.value.flatten(1, 2)
    out = attend(query.flatten(1, 2), key, value, backend=backend)
    return out.unflatten(1, query.shape[1:3])


def _with_text(
    query: Tensor, video: KeyValue, text: TextKeyValue, backend: AttentionBackend
) -> Tensor:
    """Every query to all video tokens and one prompt."""
    key, value = video.key.flatten(1, 2), video.value.flatten(1, 2)
    mask = _key_mask(key.shape[1], text.mask)
    key, value = torch.cat((key, text.key), dim=1), torch.cat((value, text.value), dim=1)
    return attend(query.flatten(1, 2), key, value, mask, backend).unflatten(1, query.shape[1:3])


def _within_latents(
    query: Tensor, own: KeyValue, text: TextKeyValue, backend: AttentionBackend
) -> Tensor:
    """Every query to the tokens of its own latent and one prompt."""
    latents = query.shape[1]
    each = TextKeyValue(
        repeat(text.key, "b l h d -> (b f) l h d", f=latents),
        repeat(text.value, "b l h d -> (b f) l h d", f=latents),
        None if text.mask is None else repeat(text.mask, "b l -> (b f) l", f=latents),
    )
    own = KeyValue(_fold(own.key), _fold(own.value))
    return _with_text(_fold(query), own, each, backend).reshape(query.shape)


def _windowed(query: Tensor, seen: KeyValue, grid: Grid, backend: AttentionBackend) -> Tensor:
    """Attention inside each window of ``grid``; windows of one shape go in one call."""
    if grid.windows == (1, 1):
        return _among(query, seen, backend)
    latents = query.shape[1]
    classes, inverse = _windows(grid, query.device)
    outputs = []
    for windows in classes:
        q, k, v = (
            rearrange(x[:, :, windows], "b f w n h d -> (b w) (f n) h d") for x in (query, *seen)
        )
        out = attend(q, k, v, backend=backend)
        outputs.append(
            rearrange(out, "(b w) (f n) h d -> b f (w n) h d", w=len(windows), f=latents)
        )
    return torch.cat(outputs, dim=2)[:, :, inverse]


def _fold(x: Tensor) -> Tensor:
    """[B, F, ...] -> [B F, 1, ...]: latents that do not see one another."""
    return x.flatten(0, 1)[:, None]


@lru_cache(maxsize=64)
def _windows(grid: Grid, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Token indices by window shape, [windows, tokens] each, and the order that undoes them."""
    with torch.inference_mode(False):  # they are kept, and training may use them next
        return _window_indices(grid, device)


def _window_indices(grid: Grid, device: torch.device) -> tuple[list[Tensor], Tensor]:
    by_shape: dict[tuple[int, int], list[Tensor]] = {}
    for rows in torch.arange(grid.rows).tensor_split(grid.windows[0]):
        for columns in torch.arange(grid.columns).tensor_split(grid.windows[1]):
            tokens = (rows[:, None] * grid.columns + columns).flatten()
            by_shape.setdefault((len(rows), len(columns)), []).append(tokens)
    classes = [torch.stack(windows).to(device) for windows in by_shape.values()]
    return classes, torch.cat([windows.flatten() for windows in classes]).argsort()


@lru_cache(maxsize=64)
def _runs(text_of_latent: tuple[int, ...]) -> list[tuple[int, slice]]:
    """Neighbouring latents of one prompt: its index and their place."""
    runs, start = [], 0
    for text, latents in groupby(text_of_latent):
        stop = start + len(list(latents))
        runs.append((text, slice(start, stop)))
        start = stop
    return runs


def _key_mask(visible: int, text_mask: Tensor | None) -> Tensor | None:
    """A text mask [B, L] behind ``visible`` keys that all may be seen."""
    if text_mask is None:
        return None
    return torch.nn.functional.pad(text_mask, (visible, 0), value=True)
