"""Stage 0 of hearing: to tell mouths from sound (design 6).

A large Whisper has heard much before it meets a picture. The demo's has heard nothing: what a
voice's spectrum says about its mouth would have to be learnt from errors of the picture, and what a
few hundred clips teach does not carry over to other voices. Asked for the mouth itself, in
thousands of utterances that nobody had to draw, it learns it in minutes. The encoder is frozen
then, as Whisper is; the projector of the adapter is trained along.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.data import Dataset

from flowact.data.actors.acoustics import augment
from flowact.data.actors.speech import best_synthesiser, make_soundtrack
from flowact.data.actors.visemes import mouth_tracks
from flowact.data.encoders import STORED
from flowact.data.splits import Split, seeds_of
from flowact.models.audio_adapter import AudioProjector
from flowact.models.audio_encoder import WhisperEncoder, log_mel
from flowact.models.components import own_memory
from flowact.pipeline import FlowActPipeline
from flowact.seeds import stable_seed
from flowact.streaming.audio import AudioExtractor
from flowact.training.objective import Draws, Losses, Objective
from flowact.training.settings import TrainConfig
from flowact.training.window_start import begun_with

MOUTH = ("mouth_open", "mouth_width", "mouth_round")  # of ``Tracks``
UTTERANCES = 2400  # made once, and heard again and again
CHUNKS = 16  # of an utterance: all that are heard at once
SILENCE = 1.5  # seconds before it, at most; it goes on past the last chunk, or ends before
PREVIEW_UTTERANCES = 64
STILL = 1e-3  # variance of a mouth that does not move


@dataclass(frozen=True)
class Speech:
    """What is heard, and the mouth in the frames of each latent.

    Attributes:
        mel: log-mel of the ring that ends with the last chunk, [B, mels, frames].
        mouth: of each of a latent's frames, ``MOUTH``, [B, F, frames, 3].
    """

    mel: Tensor
    mouth: Tensor

    def to(self, device: torch.device) -> "Speech":
        return Speech(self.mel.to(device), self.mouth.to(device))


class SpeechDataset(Dataset[Speech]):
    """Sample n is one of ``UTTERANCES``, each of a seed of its own, as a stream would hear it.

    In the training split voices, rooms, noises and recordings are augmented; elsewhere they are as
    they were spoken. Making one takes longer than training on it, so they are kept in memory: 130
    KB each.
    """

    def __init__(self, extractor: AudioExtractor, seed: int, split: Split = "train") -> None:
        self.extractor, self.seed, self.split = extractor, seed, split
        self._made: dict[int, Speech] = {}

    def __getitem__(self, sample: int) -> Speech:
        which = sample % UTTERANCES
        if which not in self._made:
            self._made[which] = self._make(which)
        return self._made[which]

    def _make(self, which: int) -> Speech:
        geometry = self.extractor.geometry
        voices = seeds_of(self.split)
        seed = voices[stable_seed(self.seed, "speech", which) % len(voices)]
        draw = np.random.default_rng(stable_seed(seed, "speech silence"))
        frames = CHUNKS * geometry.chunk_frames
        heard = geometry.audio_end(CHUNKS - 1) / geometry.sample_rate
        start, end = draw.uniform(0, SILENCE), heard + draw.uniform(-SILENCE, SILENCE)
        seconds = max(end, heard)
        sound = make_soundtrack([(start, end)], seconds, seed, best_synthesiser())
        samples = augment(sound.samples, seed) if self.split == "train" else sound.samples
        tracks = mouth_tracks(sound.phones, frames, geometry)
        mouth = torch.from_numpy(np.stack([tracks[name] for name in MOUTH], axis=1))
        ring = self.extractor.heard(torch.from_numpy(samples), CHUNKS - 1)
        return Speech(
            log_mel(ring, self.extractor.encoder.n_mels).to(STORED),
            rearrange(mouth, "(f t) m -> 1 f t m", t=geometry.temporal_stride).float(),
        )


class LipReader(nn.Module):
    """What a latent's audio tokens tell of its mouth, by a linear head."""

    def __init__(self, extractor: AudioExtractor, projector: AudioProjector) -> None:
        super().__init__()
        encoder = extractor.encoder
        self.encoder = encoder if isinstance(encoder, WhisperEncoder) else None
        self.projector = projector
        self._extractor = extractor
        self._frames = extractor.geometry.temporal_stride
        dim = projector.tokens * projector.norm.normalized_shape[0]
        self.mouth = nn.Linear(dim, self._frames * len(MOUTH))

    def forward(self, mel: Tensor) -> Tensor:
        """[B, mels, frames] -> [B, F, frames of a latent, 3]."""
        features = self._extractor.encoder.of_mel(mel.float())
        windows = self._extractor.windows(features, CHUNKS - 1, CHUNKS)
        mouth = self.mouth(self.projector(windows).flatten(2))
        return mouth.unflatten(-1, (self._frames, len(MOUTH))).float()


class SpeechObjective(Objective[Speech]):
    """Tell mouths from sound; the head that tells them is left behind.

    Args:
        extractor: whose encoder is trained in place, if it is a Whisper.
        projector: of the audio adapter, trained in place.
        seed: of the utterances.
    """

    name = "speech"
    trained = ("reader",)

    def __init__(self, extractor: AudioExtractor, projector: AudioProjector, seed: int) -> None:
        self.networks = {"reader": LipReader(extractor, projector)}
        self._reader = self.networks["reader"]
        self.averaged: dict[str, float] = {}
        self.dataset = SpeechDataset(extractor, seed)
        self._unseen = SpeechDataset(extractor, 0, "validation")

    def collate(self, items: Sequence[Speech]) -> Speech:
        return Speech(
            torch.cat([item.mel for item in items]), torch.cat([item.mouth for item in items])
        )

    def loss(self, role: str, batch: Speech, draws: Draws) -> Losses:
        return Losses((self.networks[role](batch.mel) - batch.mouth).square().mean())

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Correlation of what is told of unseen voices with the truth, of each of ``MOUTH``."""
        batch = self.collate([self._unseen[n] for n in range(PREVIEW_UTTERANCES)])
        network = self.networks["reader"]
        told = network(batch.to(next(network.parameters()).device).mel).cpu()
        r = _correlation(told.flatten(1, 2), batch.mouth.flatten(1, 2))
        return {f"unseen_{name}_r": float(value) for name, value in zip(MOUTH, r, strict=True)}

    def install(self, pipeline: FlowActPipeline) -> None:
        assert isinstance(self._reader, LipReader)
        pipeline.transformer.audio_projector = self._reader.projector.eval()
        if self._reader.encoder is not None:
            pipeline.audio_encoder = self._reader.encoder.eval().requires_grad_(False)


def build_speech(config: TrainConfig) -> SpeechObjective:
    """The stage of ``config``: on the parts in ``config.weights``, or on untrained ones.

    Raises:
        ValueError: the weights cannot be loaded, or the model does not hear.
    """
    pipeline = begun_with(config)
    projector = pipeline.transformer.audio_projector
    if projector is None:
        raise ValueError(
            f"the model {pipeline.config.name} has no audio adapter; give one that has "
            "model.transformer.audio_feature_dim"
        )
    encoder = pipeline.audio_encoder
    own_memory(projector)
    if isinstance(encoder, WhisperEncoder):
        own_memory(encoder)
        encoder.train().requires_grad_(True)
    extractor = AudioExtractor(encoder, pipeline.config.geometry)
    return SpeechObjective(extractor, projector.train(), config.seed)


def _correlation(told: Tensor, true: Tensor) -> Tensor:
    """Mean over utterances of Pearson's r along the time of [B, T, M], [M]; still mouths apart."""
    told, true = (x - x.mean(dim=1, keepdim=True) for x in (told, true))
    shared = (told * true).mean(dim=1)
    power = true.square().mean(dim=1)
    r = shared / (told.square().mean(dim=1) * power).sqrt().clamp(min=1e-9)
    return torch.stack([r[power[:, m] > STILL, m].mean() for m in range(r.shape[1])])
