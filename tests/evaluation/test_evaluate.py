"""From files to scores: the suites end to end, on a small cast and a probe that knows nothing."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from flowact.config import load_config
from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.dataset import Recipe, load_truth, write_dataset
from flowact.data.actors.renderer import Renderer
from flowact.evaluation.drift import unit_mean
from flowact.evaluation.identity import GALLERY, framing_of, gallery, top1
from flowact.evaluation.plots import draw
from flowact.evaluation.probe import Probe, save_probe
from flowact.evaluation.report import describe, table
from flowact.evaluation.settings import EvaluateConfig, Mouth, Suite
from flowact.evaluation.statistics import Estimate
from flowact.evaluation.suites import Evaluation, evaluate
from flowact.media.writer import VideoWriter

SEED, FRAMES, SIZE = 900_101, 75, 64


@pytest.fixture(scope="module")
def probe():
    torch.manual_seed(0)
    return Probe().eval()


@pytest.fixture(scope="module")
def probe_file(tmp_path_factory, probe):
    path = tmp_path_factory.mktemp("probe") / "probe.safetensors"
    save_probe(probe, path)
    return str(path)


@pytest.fixture(scope="module")
def cast(tmp_path_factory):
    """Two takes of one actor, three seconds each."""
    folder = tmp_path_factory.mktemp("cast") / "cast"
    write_dataset(
        folder, Recipe(clips=2, seconds=3, seed=SEED, height=SIZE, width=SIZE, takes=2), 1
    )
    return folder


@pytest.fixture(scope="module")
def actors(cast, probe_file):
    config = EvaluateConfig(
        videos=str(cast), suite=Suite.actors, output="scores.json", probe=probe_file
    )
    return config, evaluate(config)


def test_every_promised_score_is_there(actors):
    _, found = actors
    promised = {"lip_sync_r", "lip_sync_lag_s", "state_accuracy", "action_accuracy"}
    promised |= {"identity_top1", "av_offset_s", "seam_change", "seam_jerk", "diversity"}
    promised |= {f"drift_{name}" for name in ("colour", "sharpness", "motion", "identity")}
    assert promised <= set(found.scores)
    for score in found.scores.values():
        assert set(score) == set(Estimate.__annotations__)
        assert score["low"] <= score["mean"] <= score["high"]


def test_clips_have_rows_and_the_report_is_json(actors, probe_file):
    config, found = actors
    told = json.loads(json.dumps(describe(found, config), allow_nan=False))
    assert [row["id"] for row in told["clips"]] == ["actor-0900101-t0", "actor-0900101-t1"]
    assert all(len(row["sha256"]) == 64 for row in told["clips"])
    assert told["made_by"]["settings"]["suite"] == "actors"
    assert len(told["made_by"]["probe"]["sha256"]) == 64
    assert set(told["chance"]) == {"state", "action"}
    means = np.mean([row["motion_energy"] for row in told["clips"]])
    assert told["scores"]["motion_energy"]["mean"] == pytest.approx(means)


def test_the_table_has_a_line_a_score(actors):
    _, found = actors
    said = table({"mean": found})
    assert all(any(line.startswith(name) for line in said.splitlines()) for name in found.scores)
    assert "chance of action: 0.111 by guessing" in said


def test_the_table_has_its_order_whatever_the_first_clip_says():
    score = Estimate(mean=0.5, low=0.4, high=0.6, n=2)
    names = ["diversity_gaze", "seam_jerk", "drift_colour", "lip_sync_r"]
    said = table({"mean": Evaluation(scores=dict.fromkeys(names, score))})
    assert [line.split()[0] for line in said.splitlines()[1:]] == names[::-1][:3] + names[:1]


def test_plots_are_written_beside_the_scores(actors, tmp_path):
    saved = draw(actors[1], tmp_path / "scores.json")
    names = [path.name for path in saved]
    assert names[:2] == ["scores-mouth.png", "scores-drift.png"]
    assert "scores-confusion.png" in names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in saved)


def test_videos_are_matched_by_id_and_broken_ones_set_aside(cast, probe_file, tmp_path, caplog):
    videos = tmp_path / "made"
    videos.mkdir()
    shutil.copy(cast / "videos" / "actor-0900101-t0.mp4", videos)
    (videos / "actor-0900101-t1.mp4").write_bytes(b"broken")
    config = EvaluateConfig(
        videos=str(videos), truth=str(cast), suite=Suite.actors, output="s.json", probe=probe_file
    )
    found = evaluate(config)
    alone = evaluate(dataclasses.replace(config, videos=str(videos / "actor-0900101-t0.mp4")))
    assert alone.clips == found.clips
    assert not alone.left_out
    assert [row["id"] for row in found.clips] == ["actor-0900101-t0"]
    assert "cannot be decoded" in found.left_out["actor-0900101-t1"]
    (videos / "actor-0900101-t0.mp4").unlink()
    with pytest.raises(ValueError, match=r"no video could be measured: .*actor-0900101-t1\.mp4"):
        evaluate(config)


def test_a_speaker_without_sound_is_told_of_and_a_listener_is_not(
    cast, probe_file, tmp_path, caplog
):
    mute = tmp_path / "actor-0900101-t0.mp4"
    with VideoWriter(mute, SIZE, SIZE, 25, None, metadata={}) as writer:
        writer.write(np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
    for state, told in (("speak", True), ("listen", False)):
        truth = tmp_path / state
        shutil.copytree(cast, truth)
        manifest = truth / "manifest.jsonl"
        manifest.write_text(manifest.read_text().replace('"speak"', f'"{state}"'))
        caplog.clear()
        evaluate(
            EvaluateConfig(
                videos=str(tmp_path),
                truth=str(truth),
                suite=Suite.actors,
                output="s.json",
                probe=probe_file,
            )
        )
        assert ("t0 has no sound like the truth's" in caplog.text) == told


def test_a_folder_without_the_clips_is_named(cast, probe_file, tmp_path):
    config = EvaluateConfig(
        videos=str(tmp_path), truth=str(cast), suite=Suite.actors, output="s.json", probe=probe_file
    )
    with pytest.raises(ValueError, match=r"holds no video of a clip; .*actor-0900101-t0\.mp4"):
        evaluate(config)
    with pytest.raises(ValueError, match=r"has no manifest\.jsonl; give truth=DIR"):
        evaluate(dataclasses.replace(config, truth=str(tmp_path)))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_shortest_videos_have_the_scores_that_they_can(tmp_path, frames):
    pixels = np.random.default_rng(0).integers(0, 255, (frames, 32, 48, 3), np.uint8)
    with VideoWriter(tmp_path / "short.mp4", 32, 48, 25, None, metadata={}) as writer:
        writer.write(pixels)
    config = EvaluateConfig(videos=str(tmp_path), suite=Suite.video, output="s.json")
    found = evaluate(config)
    assert "drift_colour" in found.scores
    assert not {"sound_sync_r", "av_offset_s", "seam_change"} & set(found.scores)


@pytest.mark.parametrize("mouth", list(Mouth))
def test_any_video_can_be_measured_without_truth(cast, probe_file, tmp_path, mouth):
    config = EvaluateConfig(
        videos=str(cast / "videos" / "actor-0900101-t0.mp4"),
        suite=Suite.video,
        output="s.json",
        probe=probe_file if mouth is Mouth.probe else None,
        mouth=mouth,
    )
    found = evaluate(config)
    assert {"sound_sync_r", "av_offset_s", "drift_colour", "seam_jerk"} <= set(found.scores)
    assert ("drift_identity" in found.scores) == (mouth is Mouth.probe)
    names = {path.name for path in draw(found, tmp_path / "s.json")}
    assert ("s-box.png" in names) == (mouth is Mouth.motion)


def test_the_gallery_is_the_actor_and_others_in_the_same_clothes(probe):
    clip = make_clip(ActorSeeds.of(SEED), 10)
    people = gallery(probe, SEED, clip.tracks, SIZE, SIZE, "hips")
    assert people.shape == (GALLERY, 64)
    assert np.linalg.norm(people, axis=1) == pytest.approx(1, abs=1e-5)  # float32
    poses = Renderer(clip.identity, SIZE, SIZE).render(clip.tracks[1::3])
    actor = unit_mean(probe.read(poses).identity)
    # The same sums in another order of frames; an untrained probe tells people apart by 1e-4.
    apart = np.abs(people - actor).max(axis=1)
    assert apart[0] < 1e-6
    assert (apart[1:] > 1e-5).mean() > 0.95


def test_the_nearest_of_the_gallery_is_who_it_is():
    people = np.eye(5, dtype=np.float32)
    assert top1(people[[0, 0, 1]], people) == 1
    assert top1(people[[0, 1, 1]], people) == 0
    everyone_alike = people[[0, 0, 0]]
    assert top1(everyone_alike, everyone_alike) == 0


@pytest.mark.parametrize("framing", ["hips", "full"])
def test_the_framing_is_told_by_the_truth(framing):
    clip = make_clip(ActorSeeds.of(SEED), 5)
    landmarks = Renderer(clip.identity, 80, 64, framing).landmarks(clip.tracks)
    assert framing_of(SEED, clip.tracks, landmarks, 80, 64) == framing


def test_configuration_crosses_and_is_checked(cast):
    words = ["videos=v", "suite=video", "output=o.json", "mouth_box=[0.1,0.2,0.3,0.4]"]
    config = load_config("evaluate", words, EvaluateConfig)
    assert config.mouth_box == [0.1, 0.2, 0.3, 0.4]
    with pytest.raises(ValueError, match="mouth_box has 2 numbers"):
        dataclasses.replace(config, mouth_box=[0.1, 0.2])
    with pytest.raises(ValueError, match="truth=t is for suite=actors"):
        dataclasses.replace(config, truth="t")
    with pytest.raises(ValueError, match="mouth_box is for suite=video mouth=motion"):
        dataclasses.replace(config, mouth=Mouth.probe)
    with pytest.raises(ValueError, match="mouth_box is for suite=video mouth=motion"):
        dataclasses.replace(config, suite=Suite.actors)
    with pytest.raises(ValueError, match="decoder=d is of a model; leave it out with videos"):
        dataclasses.replace(config, decoder="d")
    with pytest.raises(ValueError, match="probe=p reads actors only; add mouth=probe"):
        dataclasses.replace(config, probe="p")
    tracks, landmarks = load_truth(cast / "truth" / "actor-0900101-t0.safetensors")
    assert len(tracks) == len(landmarks["face"]) == FRAMES
