"""A model measured on actors: streamed as a user would, beside the ceiling, resumable."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowact.config import load_config
from flowact.data.actors.settings import Speech
from flowact.data.claim import claim
from flowact.data.manifest import read_manifest
from flowact.data.splits import split_of
from flowact.evaluation.actor_streams import (
    ActorStreamer,
    TrueSampler,
    first_samples,
    schedule,
    true_latents,
)
from flowact.evaluation.model_run import evaluate_model
from flowact.evaluation.plots import draw_frames
from flowact.evaluation.probe import Probe, save_probe
from flowact.evaluation.report import describe_model, of_ceiling, table
from flowact.evaluation.settings import EvaluateConfig, Suite
from flowact.evaluation.statistics import Estimate
from flowact.evaluation.suites import Evaluation
from flowact.evaluation.video import open_video, read_frames
from flowact.media.writer import VideoWriter
from flowact.models.vae_thin import ThinDecoder, ThinSizes
from flowact.models.vae_thin_weights import save_thin_decoder
from flowact.settings import Precision

SECONDS = 1.92  # four chunks, and whole packets of AAC


def frames_of(path):
    return np.concatenate(list(read_frames(open_video(path))))


@pytest.fixture(scope="module")
def config(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline.save_pretrained(folder / "weights")
    torch.manual_seed(0)
    save_probe(Probe().eval(), folder / "probe.safetensors")
    return EvaluateConfig(
        weights=str(folder / "weights"),
        suite=Suite.actors,
        output=str(folder / "scores.json"),
        probe=str(folder / "probe.safetensors"),
        clips=2,
        seconds=SECONDS,
        synthesiser=Speech.formant,
        workers=1,
        precision=Precision.fp32,
        threads=1,
    )


@pytest.fixture(scope="module")
def run(config):
    return evaluate_model(config)


def test_truth_round_trip_and_model_are_measured(run, config, tmp_path):
    assert list(run.columns) == ["truth", "round_trip", "model"]
    told = json.loads(json.dumps(describe_model(run, config), allow_nan=False))
    assert told["measured"] == "model"
    assert set(told["ceilings"]) == {"truth", "round_trip"}
    ids = [row["id"] for row in told["clips"]]
    assert ids == ["actor-0900000-t0", "actor-0900001-t0"]
    assert all([row["id"] for row in c["clips"]] == ids for c in told["ceilings"].values())
    assert told["made_by"]["streamed"]["stream"]["micro_steps"] == 1
    heading = table(run.columns).splitlines()[0]
    assert heading.split() == ["truth", "round", "trip", "model", "95", "%", "interval", "clips"]
    picture = Image.open(draw_frames(run.columns, tmp_path / "scores.json"))
    assert picture.height == 2 * 3 * 32  # actors, columns, pixels


def test_the_default_actors_are_of_the_test_split(config):
    assert split_of(config.seed) == split_of(config.seed + 10_000) == "test"


def test_a_stream_is_what_the_pipeline_gives_its_user(run, tiny_pipeline):
    clip = read_manifest(run.folder / "truth")[0]
    video = run.folder / "truth" / clip.video
    image = Image.fromarray(frames_of(video)[0])
    prompts = schedule(clip.intervals, tiny_pipeline.config.geometry)
    output = tiny_pipeline(image, video, prompts, seed=clip.seeds["motion"])
    written = run.folder / "by hand.mp4"
    size = output.frames.shape[1:3]
    with VideoWriter(written, *size, 25, video, metadata={}) as writer:
        for begin in range(0, len(output.frames), 12):  # as the sound is written with a chunk
            writer.write(output.frames[begin : begin + 12])
    assert written.read_bytes() == (run.folder / "model" / f"{clip.id}.mp4").read_bytes()


def test_a_thin_decoder_shows_what_is_measured(run, config, tmp_path):
    """And is part of what a folder was made with: without it, nothing goes on there."""
    path = tmp_path / "thin.safetensors"
    save_thin_decoder(ThinDecoder(ThinSizes(4, (8, 6, 4), (2, 2), patch=2, blocks=1)), path)
    output = str(tmp_path / "scores.json")
    thin = replace(config, decoder=str(path), columns=("round_trip",), clips=1, output=output)
    made = evaluate_model(thin)
    assert made.streamed["decoder"].startswith("sha256:")
    assert run.streamed["decoder"] is None
    video = f"round_trip/{read_manifest(run.folder / 'truth')[0].id}.mp4"
    shown, own = (frames_of(each.folder / video) for each in (made, run))
    assert shown.shape == own.shape
    assert not np.array_equal(shown, own)
    with pytest.raises(ValueError, match="was made with decoder sha256:"):
        evaluate_model(replace(thin, decoder=None))


def test_the_round_trip_is_the_autoencoders_alone(run, tiny_pipeline):
    """Chunk by chunk, in step with the truth, from the image on."""
    clip = read_manifest(run.folder / "truth")[0]
    frames = frames_of(run.folder / "truth" / clip.video)[:40]  # the last chunk is not full
    latents = true_latents(tiny_pipeline, frames)
    shown = np.concatenate([frames[:1], frames, frames[-1:].repeat(8, axis=0)])
    pixels = torch.from_numpy(shown).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    autoencoder, geometry = tiny_pipeline.autoencoder, tiny_pipeline.config.geometry
    assert torch.equal(latents, autoencoder.encode(pixels).bfloat16().float())
    session = tiny_pipeline.session(Image.fromarray(frames[0]))
    session.sampler = TrueSampler(session.sampler, latents)
    session.push(torch.zeros(len(frames) * geometry.frame_samples))
    session.end()
    streamed = torch.cat(list(session.run()), dim=1)[0]
    whole, _ = autoencoder.decode(latents)
    expected = whole[0, :, 1 : 1 + len(frames)].add(1).mul(127.5).permute(1, 2, 3, 0)
    # Half a level of rounding, and the image's latent before its rounding to bfloat16.
    assert (streamed.float() - expected).abs().max() < 2


def test_prompts_change_where_intervals_do(run, tiny_pipeline):
    geometry = tiny_pipeline.config.geometry
    intervals = read_manifest(run.folder / "truth")[0].intervals
    later = [replace(i, start=i.start + 1.0, end=i.end + 1.0, caption="then") for i in intervals]
    prompts = schedule([replace(intervals[0], end=1.0), later[0]], geometry)
    told = [prompts.at(chunk) for chunk in range(4)]
    # The prompt frames of chunks 0 to 3 are at .24, .72, 1.2 and 1.68 s.
    assert told == [intervals[0].caption] * 2 + ["then"] * 2


def test_a_run_that_was_stopped_goes_on(run, tiny_pipeline):
    clips, columns = read_manifest(run.folder / "truth"), ("round_trip", "model")
    made = [run.folder / column / f"{clip.id}.mp4" for column in columns for clip in clips]
    lost, *kept = made
    written, times = lost.read_bytes(), {path: path.stat().st_mtime_ns for path in kept}
    lost.unlink()
    lost.with_name(f".{lost.name}").write_bytes(written[:500])  # as a kill leaves it
    settings = tiny_pipeline.config.stream
    streamer = ActorStreamer(tiny_pipeline, run.folder / "truth", settings, threads=1)
    for column in columns:
        streamer.make(clips, run.folder / column, round_trip=column == "round_trip")
    assert lost.read_bytes() == written
    assert times == {path: path.stat().st_mtime_ns for path in kept}
    assert not list(run.folder.rglob(".*"))


@pytest.mark.parametrize("first", [0, 1])
def test_processes_share_the_actors_and_the_last_measures(
    run, config, tmp_path, monkeypatch, first
):
    """Whichever it is; the videos are those of one process, and all are measured."""
    shared = replace(config, output=str(tmp_path / "scores.json"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(first))
    assert evaluate_model(shared) is None
    folder = tmp_path / "scores"
    name = f"actor-090000{first}-t0.mp4"
    assert [p.name for p in sorted(folder.rglob("*.mp4"))] == [name] * 3
    monkeypatch.setenv("RANK", str(1 - first))
    made = evaluate_model(shared)
    assert {n: column.scores for n, column in made.columns.items()} == {
        n: column.scores for n, column in run.columns.items()
    }
    videos = [path.relative_to(folder) for path in folder.rglob("*.mp4")]
    assert len(videos) == 6
    assert all((folder / v).read_bytes() == (run.folder / v).read_bytes() for v in videos)
    # With nothing left to stream, it is the first that measures, and no other.
    assert (evaluate_model(shared) is None) == (first == 0)


def test_what_other_settings_made_is_not_taken(run, config):
    with pytest.raises(ValueError, match=r"scores was made with stream .*name another output"):
        evaluate_model(replace(config, stream=replace(config.stream, micro_steps=2)))
    with pytest.raises(ValueError, match=r"truth was made with clips=2; give the same"):
        evaluate_model(replace(config, clips=3))


def test_videos_are_put_into_no_folder_of_something_else(config, tmp_path):
    """OUTPUT.json beside the weights OUTPUT: they would change under the run."""
    weights = config.weights
    before = sorted(Path(weights).rglob("*"))
    with pytest.raises(ValueError, match=r"weights is not an empty folder; name another output"):
        evaluate_model(replace(config, output=f"{weights}.json"))
    assert sorted(Path(weights).rglob("*")) == before
    (tmp_path / "made_by.json").write_text("{")
    with pytest.raises(ValueError, match=r"made_by.json is damaged; name another output"):
        claim(tmp_path, {})


def test_the_model_hears_what_the_video_plays(tiny_pipeline, run, tmp_path):
    """A packet of AAC reaches beyond the last frame: no frame is made for that."""
    (clip, _) = read_manifest(run.folder / "truth")
    short = replace(clip, frames=25)
    settings = tiny_pipeline.config.stream
    streamer = ActorStreamer(tiny_pipeline, run.folder / "truth", settings, threads=1)
    streamer.make([short], tmp_path)
    assert len(frames_of(tmp_path / f"{clip.id}.mp4")) == 25
    blocks = [torch.arange(3), torch.arange(3, 6), torch.arange(6, 9)]
    for samples in (2, 3, 5, 9, 20):
        joined = torch.cat(list(first_samples(iter(blocks), samples)))
        assert torch.equal(joined, torch.arange(min(samples, 9)))


def test_recordings_are_said_by_actors_and_measured_by_their_sound(
    config, tmp_path, write_wav, monkeypatch
):
    voices = tmp_path / "voices"
    voices.mkdir()
    for name, seconds in (("long.wav", 2.5), ("short.wav", 1.0), ("other.WAV", 2.0)):
        write_wav(tone(seconds)).rename(voices / name)
    (voices / "notes.txt").write_text("no sound")
    (voices / "broken.mp3").write_text("no sound either")
    (voices / ".hidden.wav").write_text("")
    (voices / "folder.wav").mkdir()
    config = replace(
        config,
        suite=Suite.voices,
        voices=str(voices),
        columns=("truth", "model"),
        output=str(tmp_path / "scores.json"),
    )
    run = evaluate_model(config)
    assert list(run.columns) == ["truth", "model", "voices"]
    (folder,) = run.folder.glob("voices-*")
    lengths = {p.name: len(frames_of(p)) for p in folder.iterdir()}
    assert lengths == {"long.wav.mp4": 63, "short.wav.mp4": 25, "other.WAV.mp4": 50}
    told = json.loads(json.dumps(describe_model(run, config), allow_nan=False))
    assert told["measured"] == "voices"
    assert "lip_sync_r" not in told["ceilings"]["truth"]["scores"]  # asked of all columns alike
    assert set(told["made_by"]["streamed"]["voices"]) == {"long.wav", "other.WAV", "short.wav"}
    assert "probe" in told["made_by"]
    picture = Image.open(draw_frames(run.columns, tmp_path / "scores.json"))
    assert picture.height == 3 * 32  # voices, pixels: no actor of the other columns is one of them
    # Each process streams what its own actors say, of whom the second says one.
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    shared = replace(config, output=str(tmp_path / "shared.json"))
    assert evaluate_model(shared) is None
    assert [p.name for p in (tmp_path / "shared").glob("voices-*/*")] == ["other.WAV.mp4"]
    monkeypatch.undo()
    # Other voices are streamed anew, and nothing else.
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.mp4")}
    write_wav(tone(1.2)).rename(voices / "short.wav")
    again = evaluate_model(config)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert len(list(run.folder.glob("voices-*/*.mp4"))) == 2 * len(lengths)
    assert len(again.columns["voices"].clips) == len(lengths)


def tone(seconds):
    return 0.2 * np.sin(2 * np.pi * 200 * np.arange(round(16_000 * seconds)) / 16_000)


@pytest.mark.parametrize(("files", "message"), [(None, "is no folder"), ([], "holds no sound")])
def test_voices_that_are_not_there_are_named(config, tmp_path, files, message):
    voices = tmp_path / "voices"
    if files is not None:
        voices.mkdir()
    with pytest.raises(ValueError, match=message):
        evaluate_model(replace(config, suite=Suite.voices, voices=str(voices)))


def test_the_share_of_the_ceiling_and_a_low_ceiling_are_told():
    def column(lip_sync_r):
        score = Estimate(mean=lip_sync_r, low=0.1, high=1.0, n=3)
        return Evaluation(scores={"lip_sync_r": score})

    columns = {"truth": column(0.98), "round_trip": column(0.8), "model": column(0.6)}
    assert of_ceiling(columns) == pytest.approx({"lip_sync_r": 0.75})
    heading, line, remark = table(columns).splitlines()
    assert heading.endswith("of ceiling")
    assert line.split()[:4] == ["lip_sync_r", "0.980", "0.800", "0.600"]
    assert "75.0%" in line
    assert remark.startswith("the ceiling is low: lip_sync_r of the round trip is 0.800")
    assert of_ceiling({"model": column(0.6)}) == {}
    assert "ceiling" not in table({"truth": column(0.98), "round_trip": column(0.96)})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["videos=v", "weights=w"], "there is videos and weights; give one of"),
        ([], "there is nothing; give one of videos=FILE_OR_DIR, model=PRESET and weights=DIR"),
        (["weights=w", "model=demo"], "model=demo describes an untrained model"),
        (["weights=w", "suite=video"], "suite=video measures videos"),
        (["weights=w", "suite=voices"], "suite is voices and voices is None"),
        (["weights=w", "voices=v"], "suite is actors and voices is v"),
        (["videos=w", "suite=voices", "voices=v"], "suite=voices measures a model"),
        (["weights=w", "truth=t"], r"truth=t is for videos=\.\.\."),
        (["weights=w", "columns=[truht]"], r"columns is \['truht'\]; list some of"),
    ],
)
def test_what_is_measured_is_one_thing(words, message):
    with pytest.raises(ValueError, match=message):
        load_config("evaluate", ["suite=actors", "output=o.json", *words], EvaluateConfig)


def test_a_preset_can_be_measured_and_none_is_loaded_else():
    words = ["suite=actors", "output=o.json"]
    preset = load_config("evaluate", [*words, "model=demo", "model.height=64"], EvaluateConfig)
    assert preset.model.name == "demo"
    assert preset.model.height == 64
    assert load_config("evaluate", [*words, "videos=v"], EvaluateConfig).model is None
