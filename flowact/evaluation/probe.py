"""The probe: reads an actor's mouth, eyes, head, hands, behaviour and identity from pixels.

Three small convolutional networks look at single frames: one finds face and hands in the whole
picture, two read the face, cut out of the frame at full resolution. A fourth, over time, tells
from what these have read which state and action is going on. It knows the actor world alone; on
filmed people its figures mean nothing.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.evaluation.probe_networks import (
    FACE_SIZE,
    FACE_TARGETS,
    FACE_WIDTHS,
    IDENTITY_DIM,
    SIGNALS,
    VIEW_SIZE,
    BehaviourNetwork,
    BodyNetwork,
    FaceNetwork,
)
from flowact.media.files import input_file

SHIPPED = Path(__file__).parents[1] / "assets" / "probe.safetensors"

FACE_MARGIN = 1.5  # side of a face that is cut out, in heights of the head
BLOCK_FRAMES = 64  # frames read at once

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """What the probe reads from T frames, in the units of ``Tracks``; float32.

    Attributes:
        face: [T, 3], centre x, y and height of the head, in fractions of the picture's height.
        mouth_open, mouth_width, mouth_round, blink: [T].
        gaze: [T, 2].
        head: [T, 3].
        wrists: [T, 4], right x, y and left x, y, in fractions of the picture's height.
        state: [T, states], log-probabilities.
        action: [T, actions], log-probabilities.
        identity: [T, 64], unit vectors.
    """

    face: Array
    mouth_open: Array
    mouth_width: Array
    mouth_round: Array
    gaze: Array
    blink: Array
    head: Array
    wrists: Array
    state: Array
    action: Array
    identity: Array

    def __len__(self) -> int:
        return len(self.face)

    def __getitem__(self, frames: slice) -> "Reading":
        return Reading(**{f.name: getattr(self, f.name)[frames] for f in fields(self)})


class Probe(nn.Module):
    """The four networks, and their reading of a video.

    Attributes:
        measured: the probe's own errors on held-out actors, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = BodyNetwork()
        self.expression = FaceNetwork(sum(FACE_WIDTHS))
        self.person = FaceNetwork(IDENTITY_DIM)
        self.behaviour = BehaviourNetwork(SIGNALS)
        self.measured: dict[str, float] = {}

    @torch.inference_mode()
    def read(self, frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]]) -> Reading:
        """Read a video.

        Args:
            frames: uint8 [T, H, W, 3], or blocks of it in their order.
        """
        parts = [self.look(block) for block in _blocks(frames)]
        seen = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        logits = self.behaviour(signals(seen).T[None])[0].T
        state, action = logits.split([len(STATES), len(ACTIONS)], dim=-1)
        named = dict(
            zip(FACE_TARGETS, seen["expression"].split(list(FACE_WIDTHS), dim=-1), strict=True)
        )
        flat = {key: value.squeeze(-1) for key, value in named.items()}
        return Reading(
            face=_numpy(seen["face"]),
            wrists=_numpy(seen["wrists"].flatten(1)),
            state=_numpy(state.log_softmax(-1)),
            action=_numpy(action.log_softmax(-1)),
            identity=_numpy(seen["identity"]),
            **{key: _numpy(value) for key, value in flat.items()},
        )

    def look(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """What the networks of single frames tell of ``frames`` [T, H, W, 3]."""
        pixels = to_pixels(frames)
        views, frame = view(pixels)
        points, scale, shapes, flags = self.body(views)
        points, height = frame.to_picture(points), frame.to_height(scale.exp())
        face = torch.cat([points[:, 0], height[:, None]], dim=-1)
        faces = cut_faces(pixels, face)
        return {
            "face": face,
            "wrists": points[:, 1:],
            "shapes": shapes.softmax(-1),
            "flags": flags,
            "expression": self.expression(faces),
            "identity": F.normalize(self.person(faces), dim=-1),
        }


def signals(seen: dict[str, Tensor]) -> Tensor:
    """What single frames tell, [T, SIGNALS], independent of where and how large the actor is."""
    face = seen["face"]
    reach = (seen["wrists"] - face[:, None, :2]) / face[:, None, 2:]
    return torch.cat(
        [seen["expression"], reach.flatten(1), seen["shapes"].flatten(1), seen["flags"]], dim=-1
    )


@dataclass(frozen=True)
class ViewFrame:
    """How a picture lies in its square view.

    Attributes:
        side: of the view, in pixels of the picture.
        left, top: padding, in pixels of the picture.
        height: of the picture, in pixels.
    """

    side: int
    left: int
    top: int
    height: int

    def to_picture(self, points: Tensor) -> Tensor:
        """Fractions of the view [..., 2] to fractions of the picture's height."""
        padding = points.new_tensor([self.left, self.top])
        return (points * self.side - padding) / self.height

    def to_view(self, points: Tensor) -> Tensor:
        """The inverse of ``to_picture``."""
        padding = points.new_tensor([self.left, self.top])
        return (points * self.height + padding) / self.side

    def to_height(self, lengths: Tensor) -> Tensor:
        """Lengths in the view to fractions of the picture's height."""
        return lengths * self.side / self.height


def to_pixels(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [T, H, W, 3] as float32 [T, 3, H, W] in [-1, 1]."""
    return (
        rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "t h w c -> t c h w") / 127.5 - 1
    )


def view(pixels: Tensor) -> tuple[Tensor, ViewFrame]:
    """Pictures [T, 3, H, W] padded with grey to a square and scaled to ``VIEW_SIZE``."""
    height, width = pixels.shape[-2:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    padding = (left, side - width - left, top, side - height - top)
    square = F.pad(pixels, padding)
    views = F.interpolate(
        square, (VIEW_SIZE, VIEW_SIZE), mode="bilinear", antialias=True, align_corners=False
    )
    return views, ViewFrame(side, left, top, height)


def cut_faces(
    pixels: Tensor, face: Tensor, size: int = FACE_SIZE, margin: float = FACE_MARGIN
) -> Tensor:
    """Faces [T, 3, size, size] out of pictures [T, 3, H, W].

    Args:
        face: [T, 3] as in ``Reading``.
        size: pixels a side.
        margin: side in heights of the head.
    """
    height, width = pixels.shape[-2:]
    sides = margin * face[:, 2] * height
    shrink = max(1, int(sides.median() / size))  # so that sampling between pixels skips none
    if shrink > 1:
        pixels = F.avg_pool2d(pixels, shrink, ceil_mode=True, count_include_pad=False)
    extent = face.new_tensor([width, height])
    centres = face[:, :2] * height / extent * 2 - 1
    scale = sides[:, None] / extent
    theta = torch.zeros(len(face), 2, 3, device=face.device)
    theta[:, 0, 0], theta[:, 1, 1] = scale.T
    theta[:, :, 2] = centres
    grid = F.affine_grid(theta, [len(face), 3, size, size], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def save_probe(probe: Probe, path: str | Path) -> None:
    """Write weights in half precision, with ``probe.measured``."""
    tensors = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in probe.state_dict().items()
    }
    save_file(tensors, path, metadata={"measured": json.dumps(probe.measured)})


def load_probe(path: str | Path = SHIPPED) -> Probe:
    """A probe as ``save_probe`` wrote it; without a path, the one that ships.

    Raises:
        ValueError: the file is no such probe.
    """
    probe = Probe().eval()
    try:
        with safe_open(input_file(path, "probe"), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            probe.measured = json.loads((file.metadata() or {})["measured"])
        probe.load_state_dict(
            {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
        )
    except (SafetensorError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"probe file {path} is no probe of this version ({reason}); "
            "train one by scripts/train_probe.py"
        ) from error
    return probe


def _blocks(
    frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
) -> Iterator[NDArray[np.uint8]]:
    for block in [frames] if isinstance(frames, np.ndarray) else frames:
        for start in range(0, len(block), BLOCK_FRAMES):
            yield block[start : start + BLOCK_FRAMES]


def _numpy(values: Tensor) -> Array:
    return values.float().numpy()
