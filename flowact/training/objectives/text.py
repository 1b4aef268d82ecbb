"""Stage 0 of the text encoder: to read (design 6).

A large model's text encoder has read much before it meets a picture. The demo's, which reads bytes,
would have to learn words from errors of the picture, and does so slowly. Asked which state and
which action a caption tells, it learns them in minutes; then it is trained along with the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from flowact.data.actors.behaviour import make_script
from flowact.data.actors.captions import make_captions
from flowact.data.actors.clip import ActorSeeds
from flowact.data.actors.identity import Identity
from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.data.splits import Split, seeds_of
from flowact.index import read_index
from flowact.models import components
from flowact.models.text_encoder import ByteT5TextEncoder
from flowact.pipeline import FlowActPipeline
from flowact.seeds import stable_seed
from flowact.settings import TextEncoderKind
from flowact.training.objective import Draws, Losses, Objective
from flowact.training.settings import TrainConfig

SCRIPT_FRAMES = 500  # of the performance that a caption is from
PREVIEW_CAPTIONS = 256


@dataclass(frozen=True)
class Captions:
    """Captions, and what they tell.

    Attributes:
        texts: as prompts.
        states, actions: of each, its number in ``STATES`` and ``ACTIONS``, int64 [B].
    """

    texts: tuple[str, ...]
    states: Tensor
    actions: Tensor

    def to(self, device: torch.device) -> "Captions":
        return Captions(self.texts, self.states.to(device), self.actions.to(device))


class CaptionsDataset(Dataset[Captions]):
    """Sample n is a caption of an actor of its own, in the words of its split."""

    def __init__(self, seed: int, split: Split = "train") -> None:
        self.seed, self.split = seed, split

    def __getitem__(self, sample: int) -> Captions:
        key = (self.seed, "caption", sample)
        of_split = seeds_of(self.split)
        seeds = ActorSeeds.of(of_split[stable_seed(*key) % len(of_split)])
        identity = Identity.from_seed(seeds.identity)
        script = make_script(seeds.script, SCRIPT_FRAMES)
        captions = make_captions(script, identity.pronoun, seeds.phrasing)
        draw = np.random.default_rng(stable_seed(*key, "which"))
        which = int(draw.integers(len(script)))
        return Captions(
            (captions[which],),
            torch.tensor([STATES.index(script[which].state)]),
            torch.tensor([ACTIONS.index(script[which].action)]),
        )


class CaptionReader(nn.Module):
    """What the mean of a caption's embeddings tells, by a linear head each."""

    def __init__(self, encoder: ByteT5TextEncoder) -> None:
        super().__init__()
        width = encoder.model.config.d_model
        self.encoder = encoder
        self.state = nn.Linear(width, len(STATES))
        self.action = nn.Linear(width, len(ACTIONS))

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Scores of the states [B, 4] and of the actions [B, 9] that ``texts`` may tell."""
        inputs = self.encoder.encode(texts)
        real = inputs.mask[..., None].to(inputs.embeds.dtype)
        mean = (inputs.embeds * real).sum(dim=1) / real.sum(dim=1)
        return self.state(mean).float(), self.action(mean).float()


class TextObjective(Objective[Captions]):
    """Tell states and actions of captions; the heads that tell them are left behind.

    Args:
        encoder: trained in place.
        seed: of the captions.
    """

    name = "text"
    trained = ("reader",)

    def __init__(self, encoder: ByteT5TextEncoder, seed: int) -> None:
        self._encoder = encoder
        self.networks = {"reader": CaptionReader(encoder)}
        self.averaged: dict[str, float] = {}
        self.dataset = CaptionsDataset(seed)

    def collate(self, items: Sequence[Captions]) -> Captions:
        return Captions(
            tuple(text for item in items for text in item.texts),
            torch.cat([item.states for item in items]),
            torch.cat([item.actions for item in items]),
        )

    def loss(self, role: str, batch: Captions, draws: Draws) -> Losses:
        state, action = self.networks[role](batch.texts)
        parts = {
            "state": (state.argmax(dim=1) == batch.states).float().mean(),
            "action": (action.argmax(dim=1) == batch.actions).float().mean(),
        }
        error = nn.functional.cross_entropy
        return Losses(error(state, batch.states) + error(action, batch.actions), parts)

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Shares of captions in unseen words whose state and action are told."""
        unseen = CaptionsDataset(0, "validation")
        batch = self.collate([unseen[n] for n in range(PREVIEW_CAPTIONS)])
        network = self.networks["reader"]
        batch = batch.to(next(network.parameters()).device)
        parts = self.loss("reader", batch, Draws(0, "preview", step, ())).parts
        return {f"unseen_{name}": float(share) for name, share in parts.items()}

    def install(self, pipeline: FlowActPipeline) -> None:
        pipeline.text_encoder = self._encoder.eval()


def build_text(config: TrainConfig) -> TextObjective:
    """The stage of ``config``: on the text encoder in ``config.weights``, or on an untrained one.

    Raises:
        ValueError: the text encoder is not the small one, or cannot be loaded.
    """
    folder = None if config.weights is None else Path(config.weights)
    model = config.model if folder is None else read_index(folder)[0]
    settings = model.text_encoder
    if settings.kind is not TextEncoderKind.byte_t5:
        raise ValueError(
            f"model.text_encoder.kind is {settings.kind.name}; only byte_t5 is trained here"
        )
    if folder is None:
        encoder = components.build_text_encoder(settings)
    else:
        encoder = components.load_text_encoder(settings, folder)
    assert isinstance(encoder, ByteT5TextEncoder)
    components.own_memory(encoder)
    return TextObjective(encoder.train(), config.seed)
