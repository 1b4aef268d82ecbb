"""Audio encoders: a waveform of fixed length in, 25 features a second out (paper 2.3)."""

import difflib
import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from flowact.geometry import Geometry

if TYPE_CHECKING:
    from whisper.model import AudioEncoder as WhisperAudioEncoder

# Whisper's front end fixes both rates; the geometry says what they are.
SAMPLE_RATE = Geometry().sample_rate
FRAME_SAMPLES = Geometry().frame_samples

RING_SECONDS = 8.0  # how far back a stream hears

# What reading a file of another kind, or of another model, raises.
_BAD_CHECKPOINT = (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
)


class AudioEncoder(Protocol):
    """A pure function of a waveform: one feature per ``frame_samples`` samples.

    Attributes:
        feature_dim: channels of a feature.
        sample_rate: samples per second that it hears.
        frame_samples: samples per feature.
        n_mels: bands of the log-mel that it begins with.
    """

    feature_dim: int
    sample_rate: int
    frame_samples: int
    n_mels: int

    def __call__(self, wave: Tensor) -> Tensor:
        """Encode ``wave`` [B, n], n a multiple of ``frame_samples``, to [B, n / frame_samples, D].

        A feature may depend on the whole of its row of ``wave``, and on nothing else.
        """
        ...

    def of_mel(self, mel: Tensor) -> Tensor:
        """The same from the log-mel of ``wave``, as ``log_mel`` gives it."""
        ...


# Of the log-mels of augmented actors' speech. A constant part of all features makes the tokens that
# the adapter makes of them more and more alike.
MEL_MEAN, MEL_STD = -0.27, 0.56
N_MELS = 80


class MelEncoder:
    """Whisper's log-mel front end without its network: mel frames of a feature, standardised."""

    sample_rate = SAMPLE_RATE
    frame_samples = FRAME_SAMPLES

    def __init__(self, n_mels: int = N_MELS) -> None:
        from whisper.audio import HOP_LENGTH

        self.n_mels = n_mels
        self.feature_dim = n_mels * FRAME_SAMPLES // HOP_LENGTH

    def __call__(self, wave: Tensor) -> Tensor:
        """Encode ``wave`` [B, n] to [B, n / 640, 320]."""
        return self.of_mel(log_mel(wave, self.n_mels))

    def of_mel(self, mel: Tensor) -> Tensor:
        """Encode a log-mel [B, mels, frames] to [B, frames / 4, 320]."""
        frames = self.feature_dim // self.n_mels
        standard = (mel - MEL_MEAN) / MEL_STD
        return rearrange(standard, "b mel (t frame) -> b t (frame mel)", frame=frames)


class WhisperEncoder(nn.Module):
    """A Whisper encoder of any size that runs on any length up to its own 30 s.

    Hidden states (the embedding's output, then each block's, the last one normalised) are averaged
    in groups. Whisper gives 50 outputs a second; two are joined to a feature.

    Args:
        encoder: the ``encoder`` of a ``whisper.model.Whisper``; frozen here.
        groups: indices of the hidden states averaged together; default ``layer_groups``.
    """

    sample_rate = SAMPLE_RATE
    frame_samples = FRAME_SAMPLES

    def __init__(
        self, encoder: "WhisperAudioEncoder", groups: Sequence[Sequence[int]] | None = None
    ) -> None:
        super().__init__()
        from whisper.audio import N_SAMPLES_PER_TOKEN

        self.encoder = encoder.eval().requires_grad_(False)
        self.groups = groups or layer_groups(len(encoder.blocks))
        self.n_mels = encoder.conv1.in_channels
        self.max_samples = len(encoder.positional_embedding) * N_SAMPLES_PER_TOKEN
        width = encoder.positional_embedding.shape[-1]
        self.feature_dim = len(self.groups) * width * FRAME_SAMPLES // N_SAMPLES_PER_TOKEN

    @torch.no_grad()
    def forward(self, wave: Tensor) -> Tensor:
        """Encode ``wave`` [B, n] to [B, n / 640, groups * 2 * width], on the encoder's device.

        Raises:
            ValueError: ``wave`` is longer than Whisper's positional table.
        """
        if wave.shape[-1] > self.max_samples:
            raise ValueError(
                f"wave has {wave.shape[-1]} samples; Whisper hears {self.max_samples} at most"
            )
        return self.of_mel(log_mel(wave.to(self.encoder.conv1.weight.device), self.n_mels))

    def of_mel(self, mel: Tensor) -> Tensor:
        """Encode a log-mel [B, mels, frames] to [B, frames / 4, groups * 2 * width]; the network's
        gradients are kept, if it has any."""
        states = self.hidden_states(mel)
        means = [torch.stack([states[i] for i in group]).mean(0) for group in self.groups]
        return rearrange(torch.stack(means), "group b (t pair) d -> b t (group pair d)", pair=2)

    def hidden_states(self, mel: Tensor) -> list[Tensor]:
        """All hidden states [B, frames / 2, width] of a log-mel [B, mels, frames], first to last.

        ``whisper.model.AudioEncoder.forward`` with the positional table cut to the input's length,
        which that function does not allow.
        """
        encoder = self.encoder
        x = F.gelu(encoder.conv1(mel))
        x = F.gelu(encoder.conv2(x)).transpose(1, 2)
        states = [x + encoder.positional_embedding[: x.shape[1]]]
        for block in encoder.blocks:
            states.append(block(states[-1]))
        states[-1] = encoder.ln_post(states[-1])
        return states


def layer_groups(n_layers: int) -> list[range]:
    """Groups of the ``n_layers + 1`` hidden states: four equal runs, then the last state alone.

    Every state for tiny (4 layers); 0-7, 8-15, 16-23, 24-31 and 32 for large-v3.
    """
    runs = min(4, n_layers)
    bounds = [n_layers * i // runs for i in range(runs + 1)] + [n_layers + 1]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def log_mel(wave: Tensor, n_mels: int) -> Tensor:
    """Whisper's log-mel of ``wave`` [B, n], as [B, n_mels, n / 160].

    Whisper clamps to the maximum of its input less 8; each row is an input of its own.
    """
    from whisper.audio import log_mel_spectrogram

    return torch.stack([log_mel_spectrogram(row, n_mels) for row in wave])


def build_whisper(width: int, layers: int, heads: int, seconds: float) -> WhisperEncoder:
    """An untrained encoder of Whisper's kind, for up to ``seconds`` of sound."""
    from whisper.audio import N_SAMPLES_PER_TOKEN
    from whisper.model import AudioEncoder as WhisperAudioEncoder

    tokens = round(seconds * SAMPLE_RATE) // N_SAMPLES_PER_TOKEN
    return WhisperEncoder(WhisperAudioEncoder(N_MELS, tokens, width, heads, layers))


def load_whisper(name_or_path: str, device: str | torch.device = "cpu") -> WhisperEncoder:
    """The encoder of a Whisper model; nothing else of the model is kept.

    Args:
        name_or_path: a model's name, such as "tiny" or "large-v3" (downloaded once by
            ``openai-whisper``), or a .pt file in that package's format.

    Raises:
        ValueError: no such name or file, no download, or a file that is not a Whisper model.
    """
    import whisper

    if name_or_path in whisper.available_models():
        try:
            encoder = whisper.load_model(name_or_path, device="cpu").encoder
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"Whisper {name_or_path!r} could not be fetched ({error}); "
                "connect, or give the path of its .pt file"
            ) from error
    elif Path(name_or_path).is_file():
        encoder = _read_encoder(Path(name_or_path))
    else:
        nearest = difflib.get_close_matches(
            Path(name_or_path).stem, whisper.available_models(), n=3, cutoff=0.0
        )
        raise ValueError(
            f"{name_or_path!r} is neither a file nor a Whisper model; "
            f"nearest names: {', '.join(nearest)}"
        )
    return WhisperEncoder(encoder).to(device)


def _read_encoder(path: Path) -> "WhisperAudioEncoder":
    from whisper.model import AudioEncoder as WhisperAudioEncoder
    from whisper.model import ModelDimensions

    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        dims = ModelDimensions(**checkpoint["dims"])
        encoder = WhisperAudioEncoder(
            dims.n_mels,
            dims.n_audio_ctx,
            dims.n_audio_state,
            dims.n_audio_head,
            dims.n_audio_layer,
        )
        weights = checkpoint["model_state_dict"].items()
        encoder.load_state_dict(
            {key.removeprefix("encoder."): w for key, w in weights if key.startswith("encoder.")}
        )
    except _BAD_CHECKPOINT as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} is not a Whisper checkpoint of openai-whisper ({reason}); "
            f"give one with 'dims' and 'model_state_dict', or a model's name"
        ) from error
    return encoder
