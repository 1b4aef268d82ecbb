"""The networks of the probe; what they read is in ``probe``."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from flowact.data.actors.tracks import ACTIONS, HAND_SHAPES, STATES

VIEW_SIZE = 128  # pixels a side of the whole picture, padded to a square
FACE_SIZE = 80  # pixels a side of the face, cut out

FACE_TARGETS = ("mouth_open", "mouth_width", "mouth_round", "gaze", "blink", "head")
FACE_WIDTHS = (1, 1, 1, 2, 1, 3)
POINTS = ("face", "right_wrist", "left_wrist")
FLAGS = ("shrug", "cup")
SIGNALS = sum(FACE_WIDTHS) + 4 + 2 * len(HAND_SHAPES) + len(FLAGS)
IDENTITY_DIM = 64


class Trunk(nn.Sequential):
    """Strided convolutions: [B, 3, s, s] to [B, widths[-1], s / 2^n, s / 2^n]."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        layers = [_conv(3, widths[0], 2)]
        for before, after in pairwise(widths):
            layers += [_conv(before, after, 2), _conv(after, after, 1)]
        super().__init__(*layers)


class FaceNetwork(nn.Module):
    """A cut-out face [B, 3, FACE_SIZE, FACE_SIZE] in [-1, 1] to [B, outputs]."""

    def __init__(self, outputs: int, widths: tuple[int, ...] = (24, 48, 80, 96)) -> None:
        super().__init__()
        cells = (FACE_SIZE >> len(widths)) ** 2
        self.trunk = Trunk(widths)
        self.squeeze = nn.Conv2d(widths[-1], 48, 1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(48 * cells, 128), nn.ReLU(), nn.Linear(128, outputs)
        )

    def forward(self, faces: Tensor) -> Tensor:
        return self.head(F.relu(self.squeeze(self.trunk(faces))))


class BodyNetwork(nn.Module):
    """A whole picture [B, 3, VIEW_SIZE, VIEW_SIZE] in [-1, 1] to where face and hands are.

    Returns:
        points [B, 3, 2] (``POINTS``, x and y in fractions of the view), log of the head's height
        [B] in the same, hand shapes [B, 2, shapes] as logits, flags [B, 2] (``FLAGS``).
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        self.trunk = Trunk(widths)
        self.maps = nn.Conv2d(widths[-1], len(POINTS), 1)
        self.hands = nn.Linear(2 * widths[-1], len(HAND_SHAPES))
        self.squeeze = nn.Sequential(_conv(widths[-1], 48, 2), _conv(48, 32, 2))
        cells = (VIEW_SIZE >> (len(widths) + 2)) ** 2
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * cells, 96), nn.ReLU(), nn.Linear(96, 1 + len(FLAGS))
        )

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.trunk(views)
        side = features.shape[-1]
        weights = rearrange(self.maps(features).float(), "b p h w -> b p (h w)").softmax(-1)
        centres = (torch.arange(side, device=views.device) + 0.5) / side
        grid = torch.stack(
            [repeat(centres, "w -> (h w)", h=side), repeat(centres, "h -> (h w)", w=side)], -1
        )
        cells = rearrange(features, "b c h w -> b (h w) c").float()
        around = weights[:, 1:] @ cells  # [B, 2, C], what is where each hand is
        whole = repeat(cells.mean(1), "b c -> b hands c", hands=2)
        shapes = self.hands(torch.cat([around, whole], -1))
        rest = self.head(self.squeeze(features)).float()
        return weights @ grid, rest[:, 0], shapes, rest[:, 1:]


class BehaviourNetwork(nn.Module):
    """Signals over time [B, channels, T] to logits [B, states + actions, T].

    Dilated convolutions see about 2.5 s to either side.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, width, 5, padding=2)
        self.blocks = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in (1, 2, 4, 8, 16, 32)
        )
        self.last = nn.Conv1d(width, len(STATES) + len(ACTIONS), 1)

    def forward(self, signals: Tensor) -> Tensor:
        x = F.relu(self.first(signals))
        for block in self.blocks:
            x = x + F.relu(block(x))
        return self.last(x)


def _conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
