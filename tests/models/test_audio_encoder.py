"""The audio encoders against Whisper's own code, on tiny random models."""

from pathlib import Path

import pytest
import torch
from whisper.audio import N_FRAMES, log_mel_spectrogram
from whisper.model import ModelDimensions, Whisper

from flowact.geometry import Geometry
from flowact.models.audio_encoder import (
    MEL_MEAN,
    MEL_STD,
    MelEncoder,
    WhisperEncoder,
    layer_groups,
    load_whisper,
)

FRAME = Geometry().frame_samples
WIDTH = 16


def tiny_whisper(n_mels: int = 80, n_layers: int = 5, seed: int = 0) -> Whisper:
    torch.manual_seed(seed)
    dims = ModelDimensions(
        n_mels=n_mels,
        n_audio_ctx=1500,
        n_audio_state=WIDTH,
        n_audio_head=2,
        n_audio_layer=n_layers,
        n_vocab=8,
        n_text_ctx=4,
        n_text_state=8,
        n_text_head=1,
        n_text_layer=1,
    )
    return Whisper(dims).eval()


def waves(batch_size: int, seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch_size, round(seconds * 16_000), generator=generator)


def save(model: Whisper, path: Path) -> Path:
    torch.save({"dims": vars(model.dims), "model_state_dict": model.state_dict()}, path)
    return path


def test_mel_features_are_four_mel_frames_each():
    wave = waves(2, 1.0)
    features = MelEncoder()(wave)
    assert features.shape == (2, 25, MelEncoder().feature_dim) == (2, 25, 320)
    mel = (log_mel_spectrogram(wave[1]) - MEL_MEAN) / MEL_STD
    assert torch.equal(features[1, 7], torch.cat([mel[:, i] for i in range(28, 32)]))


def test_a_loud_row_leaves_the_others_alone():
    wave = waves(2, 1.0)
    louder = torch.stack([wave[0], 1e5 * wave[1]])
    assert torch.equal(MelEncoder()(louder)[0], MelEncoder()(wave)[0])
    assert MelEncoder()(louder)[1].max() > MelEncoder()(wave)[1].max()


@pytest.mark.parametrize(
    ("n_layers", "groups"),
    [
        (2, [[0], [1], [2]]),
        (4, [[0], [1], [2], [3], [4]]),
        (6, [[0], [1, 2], [3], [4, 5], [6]]),
        (12, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12]]),
        (24, [range(0, 6), range(6, 12), range(12, 18), range(18, 24), [24]]),
        (32, [range(0, 8), range(8, 16), range(16, 24), range(24, 32), [32]]),
    ],
)
def test_layer_groups(n_layers, groups):
    assert [list(group) for group in layer_groups(n_layers)] == [list(group) for group in groups]


@pytest.mark.parametrize("n_mels", [80, 128])
def test_whisper_at_thirty_seconds_is_whispers_own_forward(n_mels):
    model = tiny_whisper(n_mels)
    wave = waves(1, 30.0)
    mel = log_mel_spectrogram(wave[0], n_mels)[None]
    assert mel.shape[-1] == N_FRAMES
    with torch.no_grad():
        expected = model.encoder(mel)
    encoder = WhisperEncoder(model.encoder)
    assert torch.equal(encoder.hidden_states(mel)[-1], expected)
    last_group = encoder(wave)[..., -2 * WIDTH :]
    assert torch.equal(last_group, expected.reshape(1, 750, 2 * WIDTH))


def test_whisper_features_are_group_means_of_output_pairs():
    encoder = WhisperEncoder(tiny_whisper().encoder, groups=[[0, 2], [5]])
    wave = waves(2, 1.0)
    features = encoder(wave)
    assert features.shape == (2, 25, encoder.feature_dim) == (2, 25, 2 * 2 * WIDTH)
    mel = torch.stack([log_mel_spectrogram(row) for row in wave])
    states = encoder.hidden_states(mel)
    mean = (states[0] + states[2]) / 2
    expected = torch.cat([mean[:, 6], mean[:, 7], states[5][:, 6], states[5][:, 7]], dim=-1)
    # float32 rounding: the mean of two in another order of operations.
    torch.testing.assert_close(features[:, 3], expected, rtol=1e-5, atol=1e-6)


def test_a_shorter_input_has_the_first_positions():
    encoder = WhisperEncoder(tiny_whisper().encoder)
    mel = log_mel_spectrogram(waves(1, 30.0)[0])[None]
    long, short = encoder.hidden_states(mel)[0], encoder.hidden_states(mel[..., :800])[0]
    assert short.shape == (1, 400, WIDTH)
    # The last position sees zero padding; elsewhere only the convolution's blocking may differ.
    torch.testing.assert_close(short[:, :399], long[:, :399], rtol=1e-5, atol=1e-5)


def test_whisper_refuses_more_than_its_table_holds():
    encoder = WhisperEncoder(tiny_whisper().encoder)
    with pytest.raises(ValueError, match=r"480640 samples; Whisper hears 480000"):
        encoder(torch.zeros(1, 480_000 + FRAME))


def test_load_whisper_keeps_only_the_encoder(tmp_path):
    model = tiny_whisper()
    loaded = load_whisper(str(save(model, tmp_path / "own.pt")))
    wave = waves(1, 2.0)
    assert torch.equal(loaded(wave), WhisperEncoder(model.encoder)(wave))
    n_encoder = sum(p.numel() for p in model.encoder.parameters())
    assert sum(p.numel() for p in loaded.parameters()) == n_encoder
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(
    ("name", "nearest"), [("tinny", "tiny"), ("large-v9", "large-v3"), ("dir/smal.pt", "small")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"{name}.*neither a file nor .*\b{nearest}\b"):
        load_whisper(name)


def test_a_model_that_cannot_be_fetched_is_named(tmp_path, monkeypatch):
    (tmp_path / "whisper").touch()  # in the place of the package's cache folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="Whisper 'tiny' could not be fetched"):
        load_whisper("tiny")


def test_a_file_that_is_no_whisper_model_is_named(tmp_path):
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"no checkpoint")
    other = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(1)}, other)
    model = tiny_whisper()
    misfit = tmp_path / "misfit.pt"
    state = tiny_whisper(n_layers=2).state_dict()
    torch.save({"dims": vars(model.dims), "model_state_dict": state}, misfit)
    empty = tmp_path / "empty.pt"
    empty.touch()
    for path in (garbage, other, misfit, empty):
        with pytest.raises(ValueError, match=path.name) as error:
            load_whisper(str(path))
        assert "\n" not in str(error.value)
