"""Previews of the window stages: what the averaged weights stream, without a trace in the run."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from test_export import write_data
from tiny import HEIGHT, WIDTH, tiny_config

from flowact.evaluation.video import open_video, read_frames
from flowact.media.writer import VideoWriter
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.runtime import resolve_dtype
from flowact.settings import Precision
from flowact.training import roles
from flowact.training.loop import Trainer
from flowact.training.preview_settings import PreviewConfig
from flowact.training.settings import LogConfig, OptimiserConfig, TrainConfig
from flowact.training.stages import build
from flowact.training.window_settings import (
    AudioMotionConfig,
    AutoregressiveConfig,
    LoraSettings,
)


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A picture and a sound: previews of it cost no gallery of actors."""
    folder = tmp_path_factory.mktemp("person")
    pixels = keyed_normal((HEIGHT, WIDTH, 3), "picture").mul(40).add(128).clamp(0, 255)
    picture, film = folder / "person.png", folder / "speech.mp4"
    Image.fromarray(pixels.to(torch.uint8).numpy()).save(picture)
    with VideoWriter(film, HEIGHT, WIDTH, 25, "flowact/assets/speech.flac", metadata={}) as writer:
        writer.write(np.zeros((50, HEIGHT, WIDTH, 3), np.uint8))
    return PreviewConfig(seconds=1.0, image=str(picture), audio=str(film), prompt="She waves.")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights, and data made by them."""
    folder = tmp_path_factory.mktemp("start")
    pipeline = FlowActPipeline.untrained(tiny_config())
    pipeline.save_pretrained(folder / "weights")
    (folder / "data").mkdir()
    write_data(folder / "data", pipeline)
    return folder


def train(start, output, preview, steps, every=1, stage="audio_motion", **changes):
    kind = {"audio_motion": AudioMotionConfig, "autoregressive": AutoregressiveConfig}[stage]
    window = kind(folders=(str(start / "data"),), average=0.5, preview=preview, **changes)
    config = TrainConfig(
        output=str(output),
        steps=steps,
        global_batch=2,
        micro_batch=2,
        model=tiny_config(),
        stage=stage,
        weights=str(start / "weights"),
        optimiser=OptimiserConfig(lr=1e-2, warmup_steps=1),
        log=LogConfig(every=1, preview_every=every),
        **{stage: window},
    )
    trainer = Trainer(build(config), config)
    trainer.run()
    return trainer


@pytest.fixture(scope="module")
def trainer(start, person, tmp_path_factory):
    """A run of one step, without previews so far."""
    return train(start, tmp_path_factory.mktemp("run"), person, 1, every=None)


def weights_of(trainer):
    networks = trainer.objective.networks
    return {f"{r}.{n}": v for r, net in networks.items() for n, v in net.state_dict().items()}


def told(output):
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if any(key.startswith("preview.") for key in line)]


def assert_leaves_no_trace(trainer, folder):
    network = trainer.objective.networks["model"]
    before = {name: value.clone() for name, value in weights_of(trainer).items()}
    trained = [parameter.requires_grad for parameter in network.parameters()]
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    assert trainer.objective.preview(folder, 1)
    after = weights_of(trainer)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert network.training
    assert trained == [parameter.requires_grad for parameter in network.parameters()]
    assert torch.equal(generator, torch.get_rng_state())
    assert threads == torch.get_num_threads()


def test_a_preview_leaves_no_trace(trainer, tmp_path):
    assert_leaves_no_trace(trainer, tmp_path)


def test_updates_of_low_rank_are_merged_into_what_is_streamed_alone(start, person, tmp_path):
    low_rank = train(start, tmp_path / "run", person, 1, None, lora=LoraSettings(rank=2))
    assert_leaves_no_trace(low_rank, tmp_path)


def test_a_run_with_previews_goes_on_exactly_as_one_without(start, person, tmp_path):
    plain = weights_of(train(start, tmp_path / "plain", person, 2, every=None))
    train(start, tmp_path / "previewed", person, 1)
    found = weights_of(train(start, tmp_path / "previewed", person, 2))
    assert plain.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in plain.items())
    first, second = told(tmp_path / "previewed")
    assert (first["step"], second["step"]) == (1, 2)
    assert {"preview.motion_energy", "preview.drift_colour"} <= set(first)
    folders = sorted((tmp_path / "previewed" / "previews").iterdir())
    assert [path.name for path in folders] == ["step-0000001", "step-0000002"]
    films = [(folder / "preview.mp4").read_bytes() for folder in folders]
    assert films[0] != films[1]


def test_a_person_of_ones_own_is_streamed_by_the_averages(start, trainer, person, tmp_path):
    trainer.objective.preview(tmp_path, 1)
    film = tmp_path / "preview.mp4"
    assert open_video(film).sound_delay == 0
    assert Image.open(tmp_path / "frames.png").height == HEIGHT
    pipeline = FlowActPipeline.from_pretrained(
        start / "weights", resolve_dtype(Precision.auto, "cpu")
    )
    settings = replace(pipeline.config.stream, micro_steps=person.micro_steps)
    sound = next(pipeline.blocks(person.audio))  # its first second
    for role, same in (("model_average", True), ("model", False)):
        network = trainer.objective.networks[role]
        pipeline.transformer.load_state_dict(network.transformer.state_dict())
        pipeline.text_encoder.load_state_dict(network.text_encoder.state_dict())
        frames = pipeline(
            person.image, sound, person.prompt, sample_rate=16_000, stream=settings
        ).frames
        by_hand = tmp_path / f"{role}.mp4"
        with VideoWriter(by_hand, HEIGHT, WIDTH, 25, person.audio, metadata={}) as writer:
            for begin in range(0, 25, 12):  # as the sound is written with a chunk
                writer.write(frames[begin : begin + 12])
        assert (by_hand.read_bytes() == film.read_bytes()) is same


def test_actors_are_beside_their_truth(start, tmp_path):
    train(start, tmp_path / "run", PreviewConfig(1, 1.0), 1, stage="autoregressive")
    folder = tmp_path / "run" / "previews" / "step-0000001"
    assert {path.name for path in folder.iterdir()} == {"actor-0800000-t0.mp4", "frames.png"}
    film = open_video(folder / "actor-0800000-t0.mp4")
    assert (film.height, film.width) == (HEIGHT, 2 * WIDTH)
    assert film.sound_delay == 0
    assert sum(map(len, read_frames(film))) == 25
    assert Image.open(folder / "frames.png").height == 2 * HEIGHT
    (numbers,) = told(tmp_path / "run")
    assert {"preview.identity_top1", "preview.drift_identity"} <= set(numbers)


def test_a_sharded_average_streams_as_a_whole_one(trainer, tmp_path):
    average = copy.deepcopy(trainer.objective.networks["model_average"])
    for name in ("whole", "sharded"):
        (tmp_path / name).mkdir()
    preview = trainer.objective._preview
    whole = preview(average, tmp_path / "whole")
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        roles._shard(average, torch.device("cpu"), 1)
        sharded = preview(average, tmp_path / "sharded")
    finally:
        dist.destroy_process_group()
    assert whole == sharded
    films = [(tmp_path / name / "preview.mp4").read_bytes() for name in ("whole", "sharded")]
    assert films[0] == films[1]


def test_one_process_of_many_streams(trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert trainer.objective.preview(tmp_path, 1) == {}
    assert not list(tmp_path.iterdir())


def test_without_weights_there_are_none_and_the_run_says_so(tmp_path, start, caplog):
    config = TrainConfig(
        output=str(tmp_path),
        model=tiny_config(),
        stage="autoregressive",
        log=LogConfig(preview_every=1),
        autoregressive=AutoregressiveConfig(folders=(str(start / "data"),)),
    )
    assert build(config).preview(tmp_path, 1) == {}
    assert "no previews" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "a.png"}, r"preview.image is a.png, preview.audio is None; give both or none"),
        ({"seconds": 0.5}, r"preview.seconds is 0.5; it must be 1 or more"),
        ({"actors": 0}, r"preview.actors is 0; it must be 1 or more"),
        ({"guidance": -1.0}, r"preview.guidance is -1.0; it must be 0 or more"),
    ],
)
def test_previews_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PreviewConfig(**changes)
