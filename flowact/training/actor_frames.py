"""Actors rendered while training runs: sample n is a pure function of n, and nothing is stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.renderer import Renderer
from flowact.data.actors.tracks import Tracks
from flowact.seeds import stable_seed

TRAINING_ACTORS = 700_000  # later seeds of the training split are the probe's
TAKE_FRAMES = 160  # of the performance that a sample is cut from
STILLS_PER_ACTOR = 2

# What a frame is judged by is small: extra weight, and half the side of a part's square.
FACE_WEIGHT, FACE_HALF = 1.0, 0.6  # in heights of the head
HAND_WEIGHT, HAND_HALF = 4.0, 0.3  # in heights of the head, around the wrist
MOUTH_WEIGHT, MOUTH_HALF = 16.0, 1.3  # in half widths of the mouth


@dataclass(frozen=True)
class ActorFrames:
    """Clips of equal length, and how much each of their pixels matters.

    Attributes:
        frames: [N, 3, T, H, W] in [-1, 1].
        weight: [N, 1, T, H, W]: 1, and more on face, mouth and hands.
    """

    frames: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "ActorFrames":
        return ActorFrames(self.frames.to(device), self.weight.to(device))


class ActorFramesDataset(Dataset[ActorFrames]):
    """First ``images`` samples of ``stills`` single frames each, then samples of one clip each.

    Every sample has actors of its own, drawn by key from the training split. Where clips are
    cropped, a sample is as many, each of an actor of its own, as have a whole frame's pixels.

    Args:
        height, width: of the frames.
        images: samples of single frames; those that follow are clips.
        stills: frames in such a sample.
        clip_frames: length of a clip.
        seed: of the draws.
        crop: side of the squares, around mouth and hands, that clips are cropped to; None is whole
            frames.

    Raises:
        ValueError: a clip would be longer than the performance it is cut from, or a crop is larger
            than the frame.
    """

    def __init__(
        self,
        height: int,
        width: int,
        images: int,
        stills: int,
        clip_frames: int,
        seed: int,
        crop: int | None = None,
    ) -> None:
        if clip_frames > TAKE_FRAMES:
            raise ValueError(f"clip_frames is {clip_frames}; it must be {TAKE_FRAMES} or less")
        if crop is not None and crop > min(height, width):
            raise ValueError(f"vae.crop is {crop}; it must be {min(height, width)} or less")
        self.height, self.width = height, width
        self.images, self.stills, self.clip_frames = images, stills, clip_frames
        self.seed, self.crop = seed, crop

    def __getitem__(self, sample: int) -> ActorFrames:
        if sample >= self.images:
            if self.crop is None:
                return self._of_actor(sample, 0, clip_frames=self.clip_frames)
            crops = self.height * self.width // self.crop**2
            return collate([self._cropped(sample, actor, self.crop) for actor in range(crops)])
        actors = range(-(-self.stills // STILLS_PER_ACTOR))
        shown = collate([self._of_actor(sample, actor, clip_frames=1) for actor in actors])
        return ActorFrames(shown.frames[: self.stills], shown.weight[: self.stills])

    def _cropped(self, sample: int, actor: int, side: int) -> ActorFrames:
        """A clip's square around a pixel that is drawn by its weight, where the frame has room."""
        whole = self._of_actor(sample, actor, self.clip_frames)
        odds = (whole.weight[0, 0, self.clip_frames // 2] - 1).numpy().astype(np.float64).ravel()
        draw = np.random.default_rng(stable_seed(self.seed, "crop", sample, actor))
        row, column = divmod(draw.choice(len(odds), p=odds / odds.sum()), self.width)
        top, left = (
            min(max(0, middle - side // 2), length - side)
            for middle, length in ((row, self.height), (column, self.width))
        )
        square = (..., slice(top, top + side), slice(left, left + side))
        return ActorFrames(whole.frames[square], whole.weight[square])

    def _of_actor(self, sample: int, actor: int, clip_frames: int) -> ActorFrames:
        key = (self.seed, "actor frames", sample, actor)
        clip = make_clip(ActorSeeds.of(stable_seed(*key) % TRAINING_ACTORS), TAKE_FRAMES)
        draw = np.random.default_rng(stable_seed(*key, "rows"))
        if clip_frames == 1:
            starts = draw.choice(TAKE_FRAMES, STILLS_PER_ACTOR, replace=False)
        else:
            starts = draw.integers(TAKE_FRAMES - clip_frames, size=1, endpoint=True)
        rows = starts[:, None] + np.arange(clip_frames)
        renderer = Renderer(clip.identity, self.height, self.width)
        return weighted_frames(renderer, clip.tracks[rows.ravel()], clips=len(starts))


def weighted_frames(renderer: Renderer, tracks: Tracks, clips: int = 1) -> ActorFrames:
    """Draw ``tracks``, which are those of ``clips`` clips one after the other."""
    pixels = renderer.render(tracks)
    frames = torch.from_numpy(pixels).float() / 127.5 - 1
    weight = torch.from_numpy(_weight(renderer.landmarks(tracks), *pixels.shape[1:3]))
    return ActorFrames(
        rearrange(frames, "(n t) h w c -> n c t h w", n=clips),
        rearrange(weight, "(n t) h w -> n 1 t h w", n=clips),
    )


def collate(samples: Sequence[ActorFrames]) -> ActorFrames:
    """One batch of all clips of ``samples``, which are of one length."""
    return ActorFrames(
        torch.cat([sample.frames for sample in samples]),
        torch.cat([sample.weight for sample in samples]),
    )


def _weight(marks: dict[str, NDArray[np.float32]], height: int, width: int) -> NDArray[np.float32]:
    """How much each pixel matters, [T, H, W]."""
    x = (np.arange(width) + 0.5) / height
    y = (np.arange(height) + 0.5) / height
    head = marks["face"][:, 2]
    parts = [
        (marks["face"], FACE_HALF * head, FACE_WEIGHT),
        (marks["mouth"], MOUTH_HALF * marks["mouth"][:, 2], MOUTH_WEIGHT),
        (marks["right_wrist"], HAND_HALF * head, HAND_WEIGHT),
        (marks["left_wrist"], HAND_HALF * head, HAND_WEIGHT),
    ]
    weight = np.ones((len(head), height, width), np.float32)
    for place, half, extra in parts:
        column = np.abs(x - place[:, :1]) < half[:, None]
        row = np.abs(y - place[:, 1:2]) < half[:, None]
        weight += extra * (row[:, :, None] & column[:, None, :])
    return weight
