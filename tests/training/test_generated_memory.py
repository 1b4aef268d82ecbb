"""Training remembers what a model made of the clips, and all else stays true."""

import sys
from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from window_training import make_clips, make_draws, make_model_config, make_network

from flowact.data.data_folder import DataFolder
from flowact.data.encoders import load_encoders
from flowact.data.store import CacheReader, CacheWriter
from flowact.data.window_dataset import WindowDataset
from flowact.data.windows import Choice, WindowsConfig
from flowact.diffusion import flow
from flowact.geometry import Geometry
from flowact.rng import keyed_normal
from flowact.training.generated_memory import (
    GeneratedMemory,
    generate_latents,
    generated_clip,
    with_generated_memory,
)
from flowact.training.objectives.autoregressive import build_autoregressive
from flowact.training.settings import TrainConfig
from flowact.training.tasks import Task, clean_buffer
from flowact.training.window_settings import AutoregressiveConfig, GenerateLatentsConfig

PAPER = Geometry()


@pytest.fixture
def windows(tmp_path):
    """Of clips beside which the opposite of each latent is stored as generated."""
    path = make_clips(tmp_path / "data", [8, 9])
    truth = CacheReader(path, "latents")
    writer = CacheWriter(path, "generated", {"latents": {}})
    for id in truth.ids:
        writer.add(id, {"latents": -truth.read(id, "latents")[:, 1:]})
    writer.close()
    return WindowDataset({path: 1.0}, PAPER, WindowsConfig(start=(0.1, 0.1, 0.1)))


def test_memory_is_generated_and_nothing_else(windows):
    generated = GeneratedMemory(windows, 1.0, seed=0)
    for sample in range(20):
        true, made = windows[sample], generated[sample]
        for place, latent in enumerate((None, *true.infos[0].memory)):
            sign = 1 if latent is None or latent < 0 else -1  # reference and image are true
            assert torch.equal(made.context[:, :, place], sign * true.context[:, :, place])
        assert torch.equal(made.short_term, true.short_term)
        assert torch.equal(made.stream, true.stream)
        assert torch.equal(made.audio, true.audio)
        assert made.infos == true.infos


def test_all_slots_are_generated_together_as_often_as_asked(windows):
    n, odds = 400, 0.3
    generated = GeneratedMemory(windows, odds, seed=0)
    later = [sample for sample in range(n) if windows[sample].infos[0].oldest > 0]
    is_made = [not torch.equal(generated[s].context, windows[s].context) for s in later]
    share = sum(is_made) / len(later)
    assert abs(share - odds) < 5 * (odds * (1 - odds) / len(later)) ** 0.5  # deviations
    assert with_generated_memory(windows, 0.0, seed=0) is windows


@pytest.mark.parametrize("accumulate", [False, True])
@torch.no_grad()
def test_truth_is_noised_and_denoised_under_memory(make_transformer, tmp_path, accumulate):
    """In one step from level .4, with the last window moved back to where the clip ends."""
    level, model = 0.4, make_model_config()
    network = make_network(make_transformer())
    folder = DataFolder(make_clips(tmp_path / "data", [7]), PAPER)
    config = GenerateLatentsConfig(weights="", folders=(), levels=(level, level), steps=1)
    config = replace(config, accumulate=accumulate)
    made = generated_clip(network, model, folder, 0, config)
    expected = []
    for oldest, new in ((0, 3), (3, 3), (4, 1)):
        window = folder.window(0, 3, Choice(oldest, 0, False, False), WindowsConfig())
        window = replace(window, context=window.context.float())  # what is made is not rounded
        if accumulate:  # all but the reference, and the image at the start, is made already
            for place, latent in enumerate(window.infos[0].memory, start=1):
                if latent >= 0:
                    past = torch.cat(expected, dim=1)
                    window.context[0, :, place] = past[:, latent]
        clean = clean_buffer(window, Task.STREAM, PAPER)
        noise = keyed_normal(tuple(clean.latents.shape), 0, "generated", "clip0", oldest)
        noisy = clean.noised(noise, torch.full_like(clean.levels, level))
        clean_again = flow.clean_from_velocity(noisy.latents, network(noisy), level)
        expected.append(clean_again[0, :, -3 * new :])
    # The same operations, but for level - 0 in another order.
    torch.testing.assert_close(made, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-5)


@pytest.fixture
def asked(tiny_pipeline, tmp_path):
    """What is asked of ``generate_latents``: two clips of an untrained model."""
    weights = tmp_path / "weights"
    tiny_pipeline.save_pretrained(weights)
    encoders = load_encoders(tiny_config(), str(weights), 0, torch.float32, "cpu")
    made_by = {kind: encoders.made_by(kind) for kind in ("latents", "features")}
    path = make_clips(tmp_path / "data", [5, 6], encoders.config.geometry, made_by=made_by)
    return GenerateLatentsConfig(weights=str(weights), folders=(str(path),), steps=2, device="cpu")


def test_from_weights_to_a_loss(asked, tmp_path):
    """Stage 1's model makes latents, and stage 1 goes on with them."""
    path = tmp_path / "data"
    generate_latents(asked)
    cache = CacheReader(path, "generated")
    assert cache.ids == {"clip0", "clip1"}
    assert cache.shape("clip1", "latents") == (4, 6 * 3, 4, 6)
    assert not torch.equal(cache.read("clip0", "latents"), cache.read("clip1", "latents")[:, :15])

    stage = AutoregressiveConfig(folders=(str(path),), generated_memory=1.0)
    train = TrainConfig(
        model=tiny_config(),
        stage="autoregressive",
        weights=asked.weights,
        output=str(tmp_path / "run"),
        autoregressive=stage,
    )
    objective = build_autoregressive(train)
    assert isinstance(objective.dataset, GeneratedMemory)
    losses = objective.loss("model", objective.collate([objective.dataset[0]]), make_draws([0]))
    assert torch.isfinite(losses.total)


def test_what_is_made_anew_replaces_the_old_once_it_is_whole(asked, tmp_path, monkeypatch):
    """By two ranks; the first dies once when it removes the old, which is no cache any more."""
    path = tmp_path / "data"
    generate_latents(asked)
    old = CacheReader(path, "generated")
    (path / "generated-mine").mkdir()  # is none
    anew = replace(asked, steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")

    def rank(number):
        monkeypatch.setenv("RANK", str(number))
        generate_latents(anew)

    rank(1)
    assert CacheReader(path, "generated", old.made_by).ids == {"clip0", "clip1"}
    with pytest.raises(ValueError, match=r"several caches .*, or let scripts/make_generated_lat"):
        CacheReader(path, "generated")
    with monkeypatch.context() as dying:
        dying.setattr("shutil.rmtree", lambda *_, **__: sys.exit())
        with pytest.raises(SystemExit):
            rank(0)
    new = CacheReader(path, "generated")
    assert new.made_by == old.made_by | {"steps": 1}
    assert new.ids == {"clip0", "clip1"}
    rank(0)
    assert set(path.glob("generated-*")) == {new.folder, path / "generated-mine"}


def test_latents_that_do_not_belong_there_are_refused(tmp_path):
    path = make_clips(tmp_path / "data", [8])
    windows = WindowDataset({path: 1.0}, PAPER, WindowsConfig())
    with pytest.raises(ValueError, match=r"no cache of generated.*make_generated_latents"):
        GeneratedMemory(windows, 0.5, seed=0)
    CacheWriter(path, "generated", {"latents": {"autoencoder": "another"}}).close()
    with pytest.raises(ValueError, match="was made from other latents"):
        GeneratedMemory(windows, 0.5, seed=0)


def test_a_cache_that_was_not_completed_is_refused_before_training(windows):
    (folder,) = windows.folders
    (shard,) = folder.path.glob("generated-*/shard-*")
    shard.unlink()
    writer = CacheWriter(folder.path, "generated", {"latents": {}})
    writer.add("clip1", {"latents": torch.zeros(4, 27, 4, 6)})
    with pytest.raises(ValueError, match=r"lacks 1 of 2 clips, such as clip0; run .*generated"):
        GeneratedMemory(windows, 0.5, seed=0)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"generated_memory is 1.5; it must be from 0 to 1"):
        AutoregressiveConfig(generated_memory=1.5)
    with pytest.raises(ValueError, match=r"levels is \(0.7, 0.2\)"):
        GenerateLatentsConfig(weights="", folders=(), levels=(0.7, 0.2))
    with pytest.raises(ValueError, match="steps is 0"):
        GenerateLatentsConfig(weights="", folders=(), steps=0)
