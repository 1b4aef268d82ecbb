"""Stage 2 differs from stage 1 in audio alone, and when it is heard."""

from dataclasses import replace

import pytest
import torch
from window_training import make_clips, make_draws, make_model_config, make_network

from flowact.data.windows import WindowsConfig
from flowact.geometry import Geometry
from flowact.training.objectives.audio_motion import AudioMotion, draw_lags, heard_late
from flowact.training.objectives.autoregressive import Autoregressive
from flowact.training.window_settings import AudioMotionConfig, AutoregressiveConfig

PAPER = Geometry()
BOTH = WindowsConfig(start=(0.0, 0.0, 0.0), drop_text=0, drop_audio=0, drop_both=0)


def make_objective(transformer, folders, **changes):
    config = AudioMotionConfig(folders=folders, windows=BOTH, **changes)
    return AudioMotion(make_network(transformer), make_model_config(), config, 1, seed=0)


def batch_of(objective, samples):
    return objective.collate([objective.dataset[sample] for sample in samples])


@pytest.fixture
def folder(tmp_path):
    return make_clips(tmp_path / "data", [8, 9])


def test_chunks_wait_for_their_audio(make_transformer, folder):
    """Of ages 2, 1, 0, those below the lag have none yet."""
    windows = batch_of(make_objective(make_transformer(), (str(folder),)), [0, 1, 2])
    heard = heard_late(windows, torch.tensor([0, 1, 2]), PAPER).audio.flatten(2)
    for sample, silent in enumerate((0, 3, 6)):
        until = windows.audio.shape[1] - silent
        assert torch.equal(heard[sample, :until], windows.audio.flatten(2)[sample, :until])
        assert not heard[sample, until:].any()
    assert windows.audio.flatten(2).any(dim=2).all()


def test_lags_are_drawn_as_often_as_asked():
    config = AudioMotionConfig(audio_lags=(0.5, 0.2, 0.3))
    lags = draw_lags(config, make_draws(range(2000)))
    for lag, p in enumerate(config.audio_lags):
        found = (lags == lag).float().mean()
        assert abs(found - p) < 5 * (p * (1 - p) / 2000) ** 0.5  # standard deviations
    assert not draw_lags(replace(config, audio_lags=(1.0,)), make_draws(range(20))).any()


def test_the_adapter_is_trained(make_transformer, folder):
    objective = make_objective(make_transformer(), (str(folder),))
    network = objective.networks["model"]
    objective.loss("model", batch_of(objective, [0]), make_draws([0])).total.backward()
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values())
    assert any("audio_projector" in name for name in trained)


def test_it_begins_where_stage_1_ended(make_transformer, folder):
    """A fresh adapter adds nothing, bit for bit: its first loss is stage 1's."""
    transformer = make_transformer()
    for block in transformer.transformer_blocks:
        torch.nn.init.zeros_(block.audio.to_out.weight)
        torch.nn.init.zeros_(block.audio.to_out.bias)
    config = AutoregressiveConfig(folders=(str(folder),), windows=BOTH)
    network = make_network(transformer)
    first = Autoregressive(network, make_model_config(), config, 1, seed=0)
    second = make_objective(transformer, (str(folder),))
    losses = [o.loss("model", batch_of(o, [0]), make_draws([0])) for o in (first, second)]
    assert torch.equal(losses[0].total, losses[1].total)


def test_folders_are_mixed_by_their_weights(make_transformer, tmp_path):
    general = make_clips(tmp_path / "general", [8, 9])
    talk = make_clips(tmp_path / "conversation", [8, 9, 10])
    objective = make_objective(
        make_transformer(), (str(general), str(talk)), folder_weights=(1.0, 3.0)
    )
    drawn = [objective.dataset.draws[sample].folder for sample in range(1000)]
    # Each folder has its share of every period of about a thousand.
    assert drawn.count(1) / len(drawn) == pytest.approx(0.75, abs=0.01)


def test_what_cannot_be_is_refused(make_transformer, folder):
    with pytest.raises(ValueError, match=r"audio_feature_dim is null.*give the size"):
        make_objective(make_transformer(audio_feature_dim=None), (str(folder),))
    with pytest.raises(ValueError, match=r"audio_lags is .*; give 1 to 3 numbers"):
        make_objective(make_transformer(), (str(folder),), audio_lags=(0.25, 0.25, 0.25, 0.25))
    with pytest.raises(ValueError, match=r"folder_weights has 2 numbers for 1 folders"):
        AudioMotionConfig(folders=("a",), folder_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="sum to 1"):
        AudioMotionConfig(audio_lags=(0.5, 0.2))
