"""Rendered frames with their truth, for training the probe's networks of single frames."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowact.data.actors.clip import ActorClip, ActorSeeds, make_clip
from flowact.data.actors.renderer import Framing, Renderer
from flowact.evaluation.probe import cut_faces, to_pixels, view
from flowact.evaluation.probe_networks import FACE_SIZE, FACE_TARGETS
from flowact.seeds import stable_seed

CONTEXT_MARGIN = 2.0  # a face is stored with what lies around it, so that training can shift it
CONTEXT_SIZE = 104

GROUP_IDENTITIES = 16  # faces over the same clothes, style and background
FRAMES_PER_IDENTITY = 8
CLIP_FRAMES = 160
# Height, width and framing of the pictures, and how often each is drawn.
SHAPES: tuple[tuple[float, int, int, Framing], ...] = (
    (0.7, 128, 128, "hips"),
    (0.12, 256, 256, "full"),
    (0.09, 240, 416, "hips"),
    (0.09, 416, 240, "hips"),
)


@dataclass(frozen=True)
class Frames:
    """N frames and what is true of them.

    Attributes:
        images: uint8 [N, 3, s, s]: whole views, or faces, ``CONTEXT_MARGIN`` heads a side.
        points: [N, 3, 2], face and wrists in fractions of the view.
        scale: [N], height of the head in fractions of the view.
        shapes: int64 [N, 2], of right and left hand.
        flags: [N, 2].
        expression: [N, 9], ``FACE_TARGETS`` in their order.
        group, identity: int64 [N]; frames of one identity lie together.
    """

    images: Tensor
    points: Tensor
    scale: Tensor
    shapes: Tensor
    flags: Tensor
    expression: Tensor
    group: Tensor
    identity: Tensor

    def __len__(self) -> int:
        return len(self.images)


def write_frames(folder: Path, seed: int) -> None:
    """Render the group of ``seed`` to a file of ``folder``, unless it is there."""
    path = folder / f"group-{seed:07}.safetensors"
    if path.exists():
        return
    parts = list(_group(seed))
    save_file({key: torch.cat([p[key] for p in parts]) for key in parts[0]}, f"{path}.part")
    Path(f"{path}.part").rename(path)


def read_frames(folder: Path, images: Literal["views", "faces"]) -> Frames:
    """All that ``write_frames`` has put into ``folder``, with one kind of image."""
    parts = [_read(path, images) for path in sorted(folder.glob("group-*.safetensors"))]
    return Frames(**{key: torch.cat([part[key] for part in parts]) for key in parts[0]})


def _read(path: Path, images: str) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        stored = {f.name: images if f.name == "images" else f.name for f in fields(Frames)}
        return {name: file.get_tensor(key) for name, key in stored.items()}


def _group(seed: int) -> Iterator[dict[str, Tensor]]:
    """One part for each identity of a group: other faces over the clothes of the first."""
    draw = np.random.default_rng(stable_seed(seed, "probe frames"))
    first = make_clip(ActorSeeds.of(seed * GROUP_IDENTITIES), CLIP_FRAMES)
    _, height, width, framing = SHAPES[draw.choice(len(SHAPES), p=[s[0] for s in SHAPES])]
    for index in range(GROUP_IDENTITIES):
        number = seed * GROUP_IDENTITIES + index
        clip = make_clip(ActorSeeds.of(number), CLIP_FRAMES)
        clip = replace(clip, identity=first.identity.with_face_of(clip.identity))
        rows = np.sort(draw.choice(CLIP_FRAMES, FRAMES_PER_IDENTITY, replace=False))
        part = _draw(clip, rows, height, width, framing)
        part["group"] = torch.full((len(rows),), seed)
        part["identity"] = torch.full((len(rows),), number)
        yield part


def _draw(
    clip: ActorClip, rows: NDArray[np.int64], height: int, width: int, framing: Framing
) -> dict[str, Tensor]:
    """The ``rows`` of a clip, as ``Frames`` has them, both kinds of images, without numbers."""
    tracks = clip.tracks[rows]
    renderer = Renderer(clip.identity, height, width, framing)
    pixels = to_pixels(renderer.render(tracks))
    marks = {key: torch.from_numpy(value) for key, value in renderer.landmarks(tracks).items()}
    views, frame = view(pixels)
    places = torch.stack([marks["face"][:, :2], marks["right_wrist"], marks["left_wrist"]], 1)
    named = tracks.arrays()
    return {
        "views": _bytes(views),
        "faces": _bytes(cut_faces(pixels, marks["face"], CONTEXT_SIZE, CONTEXT_MARGIN)),
        "points": frame.to_view(places),
        "scale": marks["face"][:, 2] * height / frame.side,
        "shapes": _columns(named, ("right_shape", "left_shape")).long(),
        "flags": _columns(named, ("shrug", "cup")),
        "expression": _columns(named, FACE_TARGETS),
    }


def _columns(named: dict[str, NDArray[np.generic]], names: tuple[str, ...]) -> Tensor:
    """Tracks side by side, [N, columns]."""
    return torch.from_numpy(np.column_stack([named[name] for name in names])).float()


def _bytes(pixels: Tensor) -> Tensor:
    return (pixels * 127.5 + 127.5).round().clamp(0, 255).byte().contiguous()


def jittered(faces: Tensor, shift: Tensor, zoom: Tensor) -> Tensor:
    """Faces as the probe cuts them, from stored ones [N, 3, CONTEXT_SIZE, CONTEXT_SIZE].

    Args:
        faces: in [-1, 1].
        shift: [N, 2], in heights of the head.
        zoom: [N], factor on the side of the cut.
    """
    centre = 0.5 + shift / CONTEXT_MARGIN
    return cut_faces(faces, torch.cat([centre, zoom[:, None] / CONTEXT_MARGIN], -1), FACE_SIZE)
