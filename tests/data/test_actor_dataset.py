"""Data sets of actors: what is on disk is what was meant, however often the run was stopped."""

import dataclasses
import json
import os
import shutil

import av
import numpy as np
import pytest

from flowact.config import load_config
from flowact.data.actors.clip import make_clip
from flowact.data.actors.dataset import Recipe, load_truth, write_dataset
from flowact.data.actors.renderer import Renderer
from flowact.data.actors.settings import MakeActorsConfig
from flowact.data.actors.speech import best_synthesiser
from flowact.data.manifest import check_manifest, read_manifest
from flowact.geometry import Geometry
from flowact.media.audio import stream_audio

RECIPE = Recipe(clips=3, seconds=1.2, seed=20, height=48, width=64, takes=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("actors") / "new" / "set"
    write_dataset(path, RECIPE, workers=1)
    return path


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_the_manifest_is_valid_and_in_order(folder):
    assert check_manifest(folder) == []
    clips = read_manifest(folder)
    assert [clip.id for clip in clips] == [
        "actor-0000020-t0",
        "actor-0000020-t1",
        "actor-0000021-t0",
    ]
    assert {(clip.frames, clip.fps) for clip in clips} == {(30, 25.0)}
    assert json.loads((folder / "dataset.json").read_text())["split"] == "train"
    assert {name.split("/")[0] for name in contents(folder)} == {
        "dataset.json",
        "manifest.jsonl",
        "videos",
        "truth",
    }


def test_picture_sound_and_truth_are_those_of_the_clip(folder):
    for index, row in enumerate(read_manifest(folder)):
        clip = make_clip(RECIPE.seeds(index), RECIPE.frames)
        assert row.seeds == dataclasses.asdict(clip.seeds)
        assert (row.intervals, row.appearance) == (clip.intervals, clip.appearance)
        renderer = Renderer(clip.identity, RECIPE.height, RECIPE.width)
        tracks, landmarks = load_truth(folder / row.truth)
        for name, values in clip.tracks.arrays().items():
            np.testing.assert_array_equal(getattr(tracks, name), values)
        for name, values in renderer.landmarks(clip.tracks).items():
            np.testing.assert_array_equal(landmarks[name], values)
        drawn, shown = renderer.render(clip.tracks), decoded(folder / row.video)
        assert drawn.shape == shown.shape
        # Half of the colours' resolution is lost in the file, and so some of fine lines.
        assert np.abs(drawn.astype(int) - shown).mean() < 6
        heard = np.concatenate(
            list(stream_audio(folder / row.video, Geometry().sample_rate, "mono"))
        )[: len(clip.soundtrack.samples)]
        # AAC at 128 kbit/s; the sound would not correlate if it were 1 ms off.
        assert np.corrcoef(heard, clip.soundtrack.samples[: len(heard)])[0, 1] > 0.95


def test_takes_differ_in_their_motion_alone(folder):
    first, second, other = read_manifest(folder)
    assert (first.intervals, first.appearance) == (second.intervals, second.appearance)
    assert {k for k in first.seeds if first.seeds[k] != second.seeds[k]} == {"motion"}
    (one, _), (two, _) = load_truth(folder / first.truth), load_truth(folder / second.truth)
    assert not np.array_equal(one.sway, two.sway)
    assert other.seeds["identity"] == first.seeds["identity"] + 1


def test_a_stopped_run_goes_on_without_redoing_what_is_complete(tmp_path, folder):
    write_dataset(tmp_path, dataclasses.replace(RECIPE), workers=1)
    whole = contents(tmp_path)
    kept = tmp_path / "videos" / "actor-0000020-t0.mp4"
    os.utime(kept, (1, 1))
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / "truth" / "actor-0000020-t1.safetensors").unlink()
    (tmp_path / "videos" / "actor-0000021-t0.mp4").unlink()
    half = tmp_path / ".actor-0000020-t1.4321"
    half.mkdir()
    (half / "video.mp4").write_bytes(b"half")
    write_dataset(tmp_path, RECIPE, workers=1)
    assert kept.stat().st_mtime == 1
    assert contents(tmp_path) == whole == contents(folder)


def test_processes_change_nothing(tmp_path, folder):
    write_dataset(tmp_path, RECIPE, workers=2)
    assert contents(tmp_path) == contents(folder)


def test_a_folder_of_something_else_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"was made with clips=3, seed=20; give the same"):
        write_dataset(folder, dataclasses.replace(RECIPE, clips=4, seed=21), workers=1)
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(ValueError, match="is not an empty folder; name a new one"):
        write_dataset(tmp_path, RECIPE, workers=1)
    with pytest.raises(ValueError, match="is not an empty folder"):
        write_dataset(tmp_path / "diary.txt", RECIPE, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"dataset.json is damaged"):
        write_dataset(tmp_path, RECIPE, workers=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 799_999, "clips": 3}, "799999 to 800000 go from the train to the validation"),
        ({"seed": 999_999, "takes": 1}, "from the test to the reserved split"),
        ({"seed": -1}, "seed is -1"),
        ({"clips": 0}, "clips is 0"),
        ({"takes": 0}, "takes is 0"),
        ({"width": 65}, "resolution is 65x48; give even sides"),
        ({"height": 14}, "resolution is 64x14; give even sides, .* of 16 pixels or more"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"seconds": float("inf")}, "seconds is inf"),
    ],
)
def test_what_cannot_be_made_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_takes_may_end_at_the_border_of_a_split():
    assert dataclasses.replace(RECIPE, seed=799_999, clips=2).id(1) == "actor-0799999-t1"


def test_the_words_of_the_script_become_a_recipe():
    words = ["output=x", "clips=3", "resolution=832x480", "framing=full", "synthesiser=formant"]
    recipe = Recipe.of(load_config("make_actors", words, MakeActorsConfig))
    assert (recipe.width, recipe.height, recipe.framing) == (832, 480, "full")
    assert recipe.synthesiser == "formant"
    words = ["output=x", "clips=3", "resolution=96"]
    recipe = Recipe.of(load_config("make_actors", words, MakeActorsConfig))
    assert (recipe.width, recipe.height) == (96, 96)
    assert recipe.synthesiser == best_synthesiser()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("resolution=big", "resolution is big; give WIDTHxHEIGHT"),
        ("resolution=10x20x30", "give WIDTHxHEIGHT"),
        ("resolution=0", "give WIDTHxHEIGHT"),
        ("framing=knees", "framing=knees.*hips"),
        ("workers=0", "workers is 0"),
        ("model=demo", "there is no key model"),
    ],
)
def test_words_that_mean_nothing_are_named(word, message):
    with pytest.raises(ValueError, match=message):
        load_config("make_actors", ["output=x", "clips=3", word], MakeActorsConfig)


def test_a_file_that_is_no_truth_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"truth file .*absent.* cannot be read"):
        load_truth(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match=r"truth file .*manifest.jsonl cannot be read"):
        load_truth(folder / "manifest.jsonl")


def test_a_damaged_truth_is_named_when_a_run_goes_on(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "set")
    truth = tmp_path / "set" / "truth" / "actor-0000021-t0.safetensors"
    truth.write_bytes(truth.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"actor-0000021-t0\.safetensors cannot be .*; delete it"):
        write_dataset(tmp_path / "set", RECIPE, workers=1)
    truth.unlink()
    write_dataset(tmp_path / "set", RECIPE, workers=1)
    assert contents(tmp_path / "set") == contents(folder)
