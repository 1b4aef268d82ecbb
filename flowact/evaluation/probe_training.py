"""Trains the probe on the actor world: three networks of single frames, then one over time."""

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.renderer import Renderer
from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.evaluation.probe import Probe, signals
from flowact.evaluation.probe_frames import Frames, jittered
from flowact.evaluation.probe_networks import (
    FACE_WIDTHS,
    VIEW_SIZE,
    BehaviourNetwork,
    BodyNetwork,
    FaceNetwork,
)
from flowact.seeds import stable_seed

logger = logging.getLogger(__name__)

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
VIEWS_PER_BATCH, FACES_PER_BATCH = 64, 128
GROUPS_PER_BATCH, FRAMES_PER_FACE = 4, 2  # of the identity network: 4 groups of 16 faces, twice
TEMPERATURE = 0.07
PERSON_STEPS = 0.4  # of the steps of the others: faces are soon told apart
POINT_WEIGHT = 20.0  # positions are fractions of the view: their errors are small numbers
MOUTH_WEIGHT = 4.0

SIGNAL_FRAMES = 250
SIGNAL_BATCH = 32
SIGNAL_NOISE = 0.02

Loss = Callable[[torch.Generator], Tensor]


def train_body(frames: Frames, steps: int) -> BodyNetwork:
    """Where face and hands are, and what the hands do."""
    model = BodyNetwork()

    def loss(draw: torch.Generator) -> Tensor:
        rows = torch.randint(len(frames), (VIEWS_PER_BATCH,), generator=draw)
        views = _degraded(_pixels(frames.images[rows]), draw)
        views, points, scale = _moved(views, frames.points[rows], frames.scale[rows], draw)
        with torch.autocast("cpu", torch.bfloat16):
            found, log_scale, shapes, flags = model(views)
        return (
            POINT_WEIGHT * F.smooth_l1_loss(found, points, beta=0.02)
            + F.smooth_l1_loss(log_scale, scale.log(), beta=0.05)
            + 0.3 * F.cross_entropy(shapes.float().flatten(0, 1), frames.shapes[rows].flatten())
            + F.mse_loss(flags, frames.flags[rows])
        )

    _train(model, loss, steps, "hands")
    return model


def train_expression(frames: Frames, steps: int) -> FaceNetwork:
    """Mouth, eyes and pose of a face."""
    model = FaceNetwork(sum(FACE_WIDTHS))
    weights = torch.ones(sum(FACE_WIDTHS))
    weights[0] = MOUTH_WEIGHT

    def loss(draw: torch.Generator) -> Tensor:
        rows = torch.randint(len(frames), (FACES_PER_BATCH,), generator=draw)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(_faces(frames, rows, draw))
        errors = F.smooth_l1_loss(
            found.float(), frames.expression[rows], beta=0.1, reduction="none"
        )
        return (weights * errors).mean()

    _train(model, loss, steps, "expression")
    return model


def train_person(frames: Frames, outputs: int, steps: int) -> FaceNetwork:
    """Who it is: two frames of a face are near, those of others far (InfoNCE)."""
    model = FaceNetwork(outputs)
    groups = torch.unique(frames.group)
    rows_of = {int(g): (frames.group == g).nonzero()[:, 0] for g in groups}

    def loss(draw: torch.Generator) -> Tensor:
        chosen = groups[torch.randperm(len(groups), generator=draw)[:GROUPS_PER_BATCH]]
        rows = torch.cat([_pairs(frames.identity, rows_of[int(g)], draw) for g in chosen])
        with torch.autocast("cpu", torch.bfloat16):
            found = model(_faces(frames, rows, draw))
        one, other = (
            F.normalize(found.float(), dim=-1).unflatten(0, (-1, FRAMES_PER_FACE)).unbind(1)
        )
        alike = one @ other.T / TEMPERATURE
        target = torch.arange(len(alike))
        return (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)) / 2

    _train(model, loss, math.ceil(PERSON_STEPS * steps), "identity")
    return model


def write_signals(folder: Path, probe: Probe, seed: int, n_frames: int) -> None:
    """Store what the probe's networks of single frames see in the clip of ``seed``."""
    path = folder / f"signals-{seed:07}.safetensors"
    if path.exists():
        return
    clip = make_clip(ActorSeeds.of(seed), n_frames)
    frames = Renderer(clip.identity, VIEW_SIZE, VIEW_SIZE).render(clip.tracks)
    tensors = {
        "signals": signals(probe.look(frames)),
        "state": torch.from_numpy(clip.tracks.state).long(),
        "action": torch.from_numpy(clip.tracks.action).long(),
    }
    save_file(tensors, f"{path}.part")
    Path(f"{path}.part").rename(path)


def train_behaviour(folder: Path, steps: int) -> BehaviourNetwork:
    """State and action from the signals that ``write_signals`` has put into ``folder``."""
    clips = [load_file(path) for path in sorted(folder.glob("signals-*.safetensors"))]
    model = BehaviourNetwork(clips[0]["signals"].shape[-1])

    def loss(draw: torch.Generator) -> Tensor:
        batch = [_excerpt(clips[int(i)], draw) for i in _choice(len(clips), SIGNAL_BATCH, draw)]
        seen = torch.stack([part["signals"].T for part in batch])
        seen = seen + SIGNAL_NOISE * torch.randn(seen.shape, generator=draw)
        state, action = model(seen).split([len(STATES), len(ACTIONS)], dim=1)
        return F.cross_entropy(
            state, torch.stack([part["state"] for part in batch])
        ) + F.cross_entropy(action, torch.stack([part["action"] for part in batch]))

    _train(model, loss, steps, "behaviour")
    return model


def _train(model: nn.Module, loss: Loss, steps: int, name: str) -> None:
    """Minimise ``loss`` over draws keyed by ``name`` and step, with a cosine learning rate."""
    if name != "behaviour":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    progress = tqdm(range(steps), name, mininterval=5)
    mean = 0.0
    for step in progress:
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * _schedule(step / steps)
        value = loss(torch.Generator().manual_seed(stable_seed("probe", name, step)))
        if not value.isfinite():
            raise ValueError(f"the loss of the probe's {name} network is not finite at step {step}")
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        mean += (value.item() - mean) / min(step + 1, 100)
        progress.set_postfix(loss=f"{mean:.4f}", refresh=False)
    logger.info("%s: loss %.4f after %d steps", name, mean, steps)
    model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def _schedule(done: float) -> float:
    """Warm-up over the first 3 %, then half a cosine to zero."""
    return min(done / 0.03, 1.0) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-3


def _pixels(images: Tensor) -> Tensor:
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _faces(frames: Frames, rows: Tensor, draw: torch.Generator) -> Tensor:
    """Faces cut about as inexactly as the body network finds them."""
    shift = 0.03 * torch.randn(len(rows), 2, generator=draw)
    zoom = (0.05 * torch.randn(len(rows), generator=draw)).exp()
    return _degraded(jittered(_pixels(frames.images[rows]), shift, zoom), draw)


def _degraded(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """Blurred, noisy, a little brighter or darker: what codecs and models do."""
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    amount = torch.rand(len(pixels), 1, 1, 1, generator=draw)
    pixels = torch.lerp(pixels, soft, (1.5 * amount - 0.5).clamp(min=0))
    strength = 0.04 * torch.rand(len(pixels), 1, 1, 1, generator=draw)
    light = 0.02 * torch.randn(len(pixels), 1, 1, 1, generator=draw)
    return pixels + strength * torch.randn(pixels.shape, generator=draw) + light


def _moved(
    views: Tensor, points: Tensor, scale: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The views shifted and zoomed by up to a tenth, points and scale with them."""
    zoom = 0.9 + 0.2 * torch.rand(len(views), generator=draw)
    shift = 0.16 * torch.rand(len(views), 2, generator=draw) - 0.08
    theta = torch.zeros(len(views), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(views.shape), align_corners=False)
    moved = F.grid_sample(views, grid, padding_mode="border", align_corners=False)
    there = ((2 * points - 1 - shift[:, None]) / zoom[:, None, None] + 1) / 2
    return moved, there, scale / zoom


def _pairs(identity: Tensor, rows: Tensor, draw: torch.Generator) -> Tensor:
    """Of each identity among ``rows``, ``FRAMES_PER_FACE`` different ones, side by side."""
    order = rows[torch.randperm(len(rows), generator=draw)]
    found = [order[identity[order] == one][:FRAMES_PER_FACE] for one in identity[rows].unique()]
    return torch.cat(found)


def _choice(n: int, size: int, draw: torch.Generator) -> Iterator[Tensor]:
    return iter(torch.randint(n, (size,), generator=draw))


def _excerpt(clip: dict[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    length = min(SIGNAL_FRAMES, len(clip["signals"]))
    start = int(torch.randint(len(clip["signals"]) - length + 1, (1,), generator=draw))
    return {key: value[start : start + length] for key, value in clip.items()}
