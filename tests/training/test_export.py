"""From a run to a pipeline: the averaged weights, what was not trained as it was."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_config

from flowact.config import restore_config
from flowact.data.encoders import features_made_by, latents_made_by
from flowact.data.manifest import Clip, write_manifest
from flowact.data.store import CacheWriter
from flowact.models.components import load_transformer
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.streaming.audio import AudioExtractor
from flowact.training.checkpoint import described, find_checkpoint, run_config
from flowact.training.export import export
from flowact.training.loop import Trainer
from flowact.training.settings import OptimiserConfig, TrainConfig
from flowact.training.stages import build
from flowact.training.tasks import Task, clean_buffer
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import AudioMotionConfig, LoraSettings


def write_data(path, pipeline):
    """One clip of noise, of the caches that ``pipeline``'s encoders would have made."""
    config, chunks = pipeline.config, 4
    geometry = config.geometry
    latents, window = chunks * geometry.chunk_latents, geometry.latent_window
    grid = (config.height // geometry.spatial_stride, config.width // geometry.spatial_stride)
    channels, dim = config.transformer.out_channels, config.transformer.audio_feature_dim
    extractor = AudioExtractor(pipeline.audio_encoder, geometry)
    noise = keyed_normal((channels, 1 + latents, *grid), "clip").bfloat16()
    for kind, made_by, tensors in (
        (
            "latents",
            latents_made_by(pipeline.autoencoder, geometry),
            {
                "latents": noise,
                "references": noise[:, :1].clone(),
                "focus": torch.ones(2, *noise.shape[-2:]),
            },
        ),
        (
            "features",
            features_made_by(extractor),
            {"features": keyed_normal((latents, window, dim), "sound").bfloat16()},
        ),
    ):
        writer = CacheWriter(path, kind, made_by)
        writer.add("clip", tensors)
        writer.close()
    write_manifest(
        path, [Clip("clip", "clip.mp4", geometry.fps, chunks * geometry.chunk_frames + 1)]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two steps from saved weights: its config, trainer and folder."""
    folder = tmp_path_factory.mktemp("run")
    pipeline = FlowActPipeline.untrained(tiny_config())
    pipeline.save_pretrained(folder / "start")
    (folder / "data").mkdir()
    write_data(folder / "data", pipeline)
    config = TrainConfig(
        output=str(folder / "out"),
        steps=2,
        global_batch=2,
        micro_batch=2,
        model=tiny_config(),
        stage="audio_motion",
        weights=str(folder / "start"),
        audio_motion=AudioMotionConfig(folders=(str(folder / "data"),), average=0.5),
    )
    trainer = Trainer(build(config), config)
    trainer.run()
    return config, trainer, folder


def test_the_average_is_exported_and_the_rest_is_kept(run):
    config, trainer, folder = run
    export(config, find_checkpoint(folder / "out", None), folder / "exported")
    exported = FlowActPipeline.from_pretrained(folder / "exported")
    start = FlowActPipeline.from_pretrained(folder / "start")
    assert exported.trained
    networks = trainer.objective.networks
    average, newest = (networks[role].transformer for role in ("model_average", "model"))
    for name, value in exported.transformer.state_dict().items():
        assert torch.equal(value, average.state_dict()[name]), name
    assert not torch.equal(newest.proj_out.weight, average.proj_out.weight)
    text = exported.text_encoder.state_dict()
    averaged_text = networks["model_average"].text_encoder.state_dict()
    assert all(torch.equal(value, averaged_text[name]) for name, value in text.items())
    kept = start.autoencoder.module.state_dict()
    assert all(
        torch.equal(value, kept[name])
        for name, value in exported.autoencoder.module.state_dict().items()
    )


def test_a_note_goes_with_the_weights(run):
    config, _, folder = run
    checkpoint = find_checkpoint(folder / "out", None)
    assert export(config, checkpoint, folder / "unnoted").note is None
    export(config, checkpoint, folder / "noted", note="tulips alone")
    assert FlowActPipeline.from_pretrained(folder / "noted").note == "tulips alone"
    assert export(config, checkpoint, folder / "silenced", note="").note is None


def test_in_bfloat16_it_is_half_the_size_and_the_weights_rounded(run):
    config, _, folder = run
    checkpoint = find_checkpoint(folder / "out", None)
    whole = export(config, checkpoint, folder / "whole")
    export(config, checkpoint, folder / "half", torch.bfloat16)
    half = FlowActPipeline.from_pretrained(folder / "half")
    for part in ("transformer", "text_encoder"):
        rounded = getattr(half, part).state_dict()
        for name, value in getattr(whole, part).state_dict().items():
            assert torch.equal(rounded[name], value.bfloat16().float()), name
    whole_size, half_size = (
        sum(file.stat().st_size for file in (folder / name).rglob("*.safetensors"))
        for name in ("whole", "half")
    )
    assert half_size < 0.6 * whole_size  # names and shapes stay, and these weights are few


def test_low_rank_updates_are_exported_in_the_weights(run):
    """Next stages begin with the folder as with any other."""
    config, _, folder = run
    stage = replace(config.audio_motion, lora=LoraSettings(rank=2))
    config = replace(
        config,
        output=str(folder / "lora"),
        optimiser=OptimiserConfig(lr=1e-2, warmup_steps=0),
        audio_motion=stage,
    )
    trainer = Trainer(build(config), config)
    trainer.run()
    export(config, find_checkpoint(folder / "lora", None), folder / "merged")
    merged, start = (
        load_transformer(folder / name / "transformer", torch.float32)
        for name in ("merged", "start")
    )
    assert merged.state_dict().keys() == start.state_dict().keys()
    average = trainer.objective.networks["model_average"]
    buffer = clean_buffer(build(config).dataset[0], Task.STREAM, config.model.geometry)
    with torch.no_grad():
        made = average(buffer)
        ours, theirs = (
            WindowModel(network, average.text_encoder, config.model.geometry)(buffer)
            for network in (merged, start)
        )
    # float32: (W + s B A) x and W x + s B (A x) round otherwise.
    torch.testing.assert_close(ours, made, rtol=0, atol=1e-5)
    assert (theirs - made).abs().max() > 1e-3


def test_the_config_of_a_run_comes_back(run):
    config, _, folder = run
    checkpoint = find_checkpoint(folder / "out", 2)
    restored = restore_config(run_config(checkpoint), TrainConfig)
    assert restored == config
    with pytest.raises(ValueError, match="not one of this version"):
        restore_config(described(config) | {"colour": 1}, TrainConfig)


def test_what_is_not_there_is_named(run):
    folder = run[2]
    with pytest.raises(ValueError, match=r"run=.*out has no checkpoint of step 7"):
        find_checkpoint(folder / "out", 7)
    with pytest.raises(ValueError, match=r"run=.*data has no checkpoint"):
        find_checkpoint(folder / "data", None)


def test_other_weights_of_the_name_are_refused_and_data_may_have_grown(run):
    """What the stage has not trained is taken from the weights; the data is not needed."""
    config, _, folder = run
    checkpoint, output = find_checkpoint(folder / "out", None), folder / "again"
    manifest = folder / "data" / "manifest.jsonl"
    manifest.write_text(manifest.read_text() + "\n")
    export(config, checkpoint, output)
    index = folder / "start" / "model_index.json"
    whole = index.read_text()
    index.write_text(whole + " ")
    try:
        with pytest.raises(ValueError, match=r"weights=\S+ holds other files than when the run"):
            export(config, checkpoint, output)
    finally:
        index.write_text(whole)
