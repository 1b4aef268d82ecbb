"""Videos in, caches out: what is in them, and that nothing is lost, redone or fatal."""

import dataclasses
import gc
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from realdata import realdata
from tiny import HEIGHT, WIDTH, tiny_config
from video_files import click_times, every, flash_frames, write_video

from flowact.data.encoders import load_encoders
from flowact.data.focus import focus_maps
from flowact.data.manifest import (
    MANIFEST,
    Clip,
    Interval,
    check_manifest,
    read_manifest,
    write_manifest,
)
from flowact.data.plan import ClipRules, materials, plan_clips
from flowact.data.preprocess import preprocess
from flowact.data.records import merge
from flowact.data.report import read_report, table
from flowact.data.settings import PreprocessConfig
from flowact.data.sheet import draw_sheet
from flowact.data.store import CacheReader, caption_id
from flowact.data.windows import prompt_of
from flowact.ranks import rank_and_world
from flowact.settings import Precision

GEOMETRY = tiny_config().geometry
FPS, CHUNK = GEOMETRY.fps, GEOMETRY.chunk_frames
# Flashes would be cuts.
RULES = ClipRules(GEOMETRY, ((HEIGHT, WIDTH),), 0.9, 2.0, False, 0.25, 1)
INTERVALS = (
    Interval(0.0, 1.0, "speak", "She talks.", "wave"),
    Interval(1.0, 3.5, "listen", "She listens."),
)


def config_of(folder, output, **changes):
    values = {"min_seconds": 0.9, "max_seconds": 2.0, "sheets": 0, "shots": False} | changes
    return PreprocessConfig(
        model=tiny_config(),
        input=str(folder),
        output=str(output),
        precision=Precision.fp32,
        device="cpu",
        **values,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos of other rates and shapes, the first with captions."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", every(25, 3.5), (1.0,), (1.0,))
    write_video(folder / "b.mkv", every(30, 3.0), (0.5,), (0.5,), size=(96, 64))
    write_video(folder / "c.mp4", every(50, 2.5), (1.5,), (1.5,), size=(64, 64))
    clips = [
        Clip("a", "a.mp4", 25.0, 87, appearance="A woman.", intervals=INTERVALS),
        Clip("b", "b.mkv", 30.0, 90),
        Clip("c", "c.mp4", 50.0, 125),
    ]
    write_manifest(folder, clips)
    return folder


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """The folder, preprocessed by one process."""
    output = tmp_path_factory.mktemp("done")
    assert preprocess(config_of(folder, output, sheets=1))
    return output


def tensors_of(output):
    """All that the caches of a folder hold."""
    found = {}
    for kind, names in {
        "latents": ("latents", "references", "reference_frames", "focus"),
        "features": ("features",),
        "text": ("ids",),
    }.items():
        reader = CacheReader(output, kind)
        for id in reader.ids:
            found |= {(kind, id, name): reader.read(id, name) for name in names}
    return found


def assert_same(one, other):
    assert (one / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes()
    first, second = tensors_of(one), tensors_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


# --- what is made ---------------------------------------------------------------------------------


def test_caches_hold_what_the_encoders_say(folder, done):
    encoders = load_encoders(tiny_config(), None, 0, torch.float32, "cpu")
    plan = plan_clips(read_manifest(folder)[0], folder, done, RULES)
    latents, features, text = (
        CacheReader(done, kind, encoders.made_by(kind)) for kind in ("latents", "features", "text")
    )
    for material in materials(plan, plan.clips, RULES):
        clip = material.clip
        chunks = (clip.frames - 1) // CHUNK
        made = latents.read(clip.id, "latents")
        assert made.dtype == torch.bfloat16
        assert made.shape[1] == 1 + chunks * GEOMETRY.chunk_latents
        assert torch.equal(made, encoders.latents(material.frames))
        picked = latents.read(clip.id, "reference_frames")
        assert picked[0] == 0
        assert len(set(picked.tolist())) == 3
        references = latents.read(clip.id, "references")
        assert torch.equal(references, encoders.references(material.frames[picked.numpy()]))
        focus = focus_maps(made, torch.from_numpy(material.wave), GEOMETRY)
        assert torch.equal(latents.read(clip.id, "focus"), focus)
        # A clip's first latent is an image latent of its first frame: the encoder is causal. The
        # tolerance is that of bfloat16 values around 1.
        assert torch.allclose(references[:, 0].float(), made[:, 0].float(), atol=2**-7)
        assert torch.equal(
            features.read(clip.id, "features"), encoders.features(material.wave, chunks)
        )
    spoken = ("She talks.", "She listens.")
    for caption in ("", *spoken, *(prompt_of("A woman.", said) for said in ("", *spoken))):
        assert torch.equal(text.read(caption_id(caption), "ids"), encoders.text(caption)["ids"])


def test_sound_of_a_clip_begins_with_frame_1_and_goes_on_past_its_end(folder, tmp_path):
    plan = plan_clips(read_manifest(folder)[0], folder, tmp_path, RULES)
    first = next(materials(plan, plan.clips, RULES))
    flash = flash_frames(first.frames)[0]
    assert flash == FPS  # a second in
    # Frame 1 shows sample 0 of the wave.
    assert abs(click_times(first.wave, GEOMETRY.sample_rate)[0] - (flash - 1) / FPS) < 1e-3
    ahead = GEOMETRY.window_right + GEOMETRY.lookahead
    assert len(first.wave) == (first.clip.frames - 1 + ahead) * GEOMETRY.frame_samples


def test_no_clip_goes_across_a_cut(tmp_path):
    shots = [(0.0, (180, 40, 40)), (1.2, (40, 160, 60))]
    write_video(tmp_path / "a.mp4", every(30, 3.0), colours=shots)
    rules = dataclasses.replace(RULES, shots=True)
    plan = plan_clips(Clip("a", "a.mp4", 30.0, 90), tmp_path, tmp_path, rules)
    spans = [(clip.source.start, clip.source.start + clip.frames / FPS) for clip in plan.clips]
    assert spans == [(0.0, 1.0), (1.2, 1.2 + 37 / FPS)]


def test_clips_carry_what_the_manifest_says_of_them(folder, done):
    clips = read_manifest(done)
    assert check_manifest(done) == []
    of_a = [clip for clip in clips if clip.id.startswith("a-")]
    assert len(of_a) == 2
    for clip in of_a:
        start, length = clip.source.start, clip.frames / FPS
        assert clip.fps == FPS
        assert (clip.frames - 1) % CHUNK == 0
        assert clip.appearance == "A woman."
        assert (done / clip.video).samefile(folder / "a.mp4")
        for interval in clip.intervals:
            whole = next(i for i in INTERVALS if i.caption == interval.caption)
            assert (interval.state, interval.action) == (whole.state, whole.action)
            assert interval.start == pytest.approx(max(0, whole.start - start), abs=1e-6)
            assert interval.end == pytest.approx(min(length, whole.end - start), abs=1e-6)
    assert [i.caption for i in of_a[0].intervals] == ["She talks.", "She listens."]
    assert [i.caption for i in of_a[1].intervals] == ["She listens."]


def test_report_tells_the_share_of_each_stage(done):
    report = read_report(done)
    rank = report["ranks"]["00000"]
    assert report["clips"] == len(read_manifest(done)) == rank["clips"]
    main = ("wait", "latents", "references", "features", "text", "write")
    # The thread that encodes is always in one of its stages, but for the progress bar.
    assert 0.7 * rank["seconds"] < sum(rank["stages"][name] for name in main) <= rank["seconds"]
    assert "latents" in table(report)


def test_contact_sheet_is_drawn(done, folder, tmp_path):
    assert [path.name for path in (done / "sheets").iterdir()] == ["a.png"]
    plan = plan_clips(read_manifest(folder)[1], folder, tmp_path, RULES)
    draw_sheet(plan, RULES, tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 1000


def test_real_videos_go_through(tmp_path):
    source = realdata("video")[0].parent
    rules = ClipRules(GEOMETRY, ((64, 64),), 2.0, 10.0, True, 0.25, 1)
    for name, seconds in (("latentsync_demo1.mp4", 10.0), ("latentsync_demo3.mp4", 20.0)):
        plan = plan_clips(Clip("a", name, 25.0, 1), source, tmp_path, rules)
        assert len(plan.shown) == seconds * FPS
        assert sum(clip.frames for clip in plan.clips) > (seconds - 1) * FPS


# --- sharing and resuming -------------------------------------------------------------------------


def as_rank(monkeypatch, rank, world):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))


def test_two_processes_make_what_one_makes(folder, done, tmp_path, monkeypatch):
    as_rank(monkeypatch, 1, 2)
    assert not preprocess(config_of(folder, tmp_path))
    as_rank(monkeypatch, 0, 2)
    assert preprocess(config_of(folder, tmp_path))
    assert_same(done, tmp_path)


def test_the_number_of_processes_may_change(folder, done, tmp_path, monkeypatch):
    as_rank(monkeypatch, 2, 3)
    assert not preprocess(config_of(folder, tmp_path))
    before = (tmp_path / "parts" / "00002.jsonl").read_text().count('"clip"')
    as_rank(monkeypatch, 0, 1)
    assert preprocess(config_of(folder, tmp_path))
    assert_same(done, tmp_path)
    made = read_report(tmp_path)["ranks"]["00000"]["clips"]
    assert before > 0
    assert before + made == len(read_manifest(done))


def test_ranks_are_those_of_the_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert rank_and_world() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert rank_and_world() == (3, 4)
    as_rank(monkeypatch, 2, 2)
    with pytest.raises(ValueError, match="RANK is 2 and WORLD_SIZE is 2"):
        rank_and_world()


def test_a_killed_run_goes_on_where_it_was(folder, done, tmp_path):
    script = (
        "import sys; from test_preprocess import config_of, preprocess; "
        "preprocess(config_of(*sys.argv[1:]))"
    )
    tests = Path(__file__).parents[1]
    paths = [str(tests.parent), str(tests), str(tests / "data")]
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.DEVNULL,
    )
    part = tmp_path / "parts" / "00000.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (part.exists() and part.read_text().count("\n") > 1):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = [json.loads(text) for text in part.read_text().splitlines() if text.endswith("}")]
    kept = [values for values in before if "clip" in values]
    assert 0 < len(kept) < len(read_manifest(done)), "the kill came too late to test anything"
    with part.open("a") as file:
        file.write('{"of": "torn')
    assert preprocess(config_of(folder, tmp_path))
    assert_same(done, tmp_path)
    # What had been recorded was not made again; a clip in the caches alone costs no encoding.
    made = read_report(tmp_path)["ranks"]["00000"]["clips"]
    assert made == len(read_manifest(done)) - len(kept)


def test_caches_can_be_added_later(folder, done, tmp_path):
    assert preprocess(config_of(folder, tmp_path, caches=("text",)))
    assert preprocess(config_of(folder, tmp_path, caches=("features",)))
    assert not list(tmp_path.glob("latents-*"))
    assert preprocess(config_of(folder, tmp_path))
    assert_same(done, tmp_path)


def test_a_folder_made_with_other_settings_is_refused(folder, done):
    with pytest.raises(ValueError, match=r"was made with max_seconds 2\.0, now it is 3\.0"):
        preprocess(config_of(folder, done, max_seconds=3.0))


def test_a_folder_made_of_other_videos_is_refused(done, tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ValueError, match=r"was made with input .*, now it is"):
        preprocess(config_of(tmp_path, done))


def test_lines_that_change_afterwards_are_told_of(folder, tmp_path, caplog):
    shutil.copy(folder / "a.mp4", tmp_path)
    clip = read_manifest(folder)[0]
    config = config_of(tmp_path, tmp_path / "out", caches=("text",))
    write_manifest(tmp_path, [clip])
    assert preprocess(config)
    assert preprocess(config)
    assert "new lines" not in caplog.text
    write_manifest(tmp_path, [dataclasses.replace(clip, sync_offset=0.1)])
    assert preprocess(config)
    assert "has new lines for 1 videos" in caplog.text


def test_folders_may_be_links(folder, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "in").symlink_to(folder)
    assert preprocess(config_of(tmp_path / "in", tmp_path / "out", caches=("text",)))
    assert check_manifest(tmp_path / "out") == []


# --- what is set aside ----------------------------------------------------------------------------


def test_broken_videos_are_set_aside_with_the_reason(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    times = every(25, 2.5)
    write_video(folder / "good.mp4", times)
    write_video(folder / "silent.mp4", times, sound_seconds=0)
    write_video(folder / "deaf.mp4", times, sound_seconds=1.5)
    write_video(folder / "late.mp4", times, sound_start=1.0)
    write_video(folder / "short.mp4", every(25, 0.5))
    write_video(folder / "less.mp4", times)
    whole = write_video(folder / "half.mkv", times).read_bytes()
    (folder / "half.mkv").write_bytes(whole[: len(whole) // 2])
    (folder / "text\u2028.mp4").write_text("nothing of a video")
    (folder / "empty.mp4").touch()
    reasons = {
        "silent": "has no sound track",
        "deaf": "is shorter than the video: it ends 0.97 s before",
        "late": "is shorter than the video: it begins 0.98 s after",
        "short": "is too short",
        "less": "is truncated: it has 2.48 s of 4.00 s by the manifest",
        "half": "is truncated: it ends at",
        "text": "cannot be decoded",
        "empty": "is empty",
        "gone": "No such file",
    }
    names = {"half": "half.mkv", "text": "text\u2028.mp4"}
    frames = {"less": 100, "short": 12}
    clips = [
        Clip(id, names.get(id, f"{id}.mp4"), 25.0, frames.get(id, 62)) for id in ("good", *reasons)
    ]
    write_manifest(folder, clips)
    with (folder / MANIFEST).open("a") as file:
        file.write('{"id": "worse"}\n')
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}
    assert preprocess(config_of(folder, output))
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()} == before
    assert {clip.source.video for clip in read_manifest(output)} == {"../in/good.mp4"}
    found = read_report(output)["reasons"]
    assert found.keys() == {*reasons, "line 11"}
    for id, reason in reasons.items():
        assert reason in found[id], id
    assert "manifest.jsonl:11: video: is missing; add it" in found["line 11"]
    assert "set aside: 10" in table(read_report(output))


def test_a_mended_video_is_taken_up(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_manifest(folder, [Clip("a", "a.mp4", 25.0, 62)])
    (folder / "a.mp4").touch()
    assert preprocess(config_of(folder, output))
    assert read_manifest(output) == []
    write_video(folder / "a.mp4", every(25, 2.5))
    assert preprocess(config_of(folder, output))
    assert len(read_manifest(output)) == 2
    assert read_report(output)["reasons"] == {}


def test_the_longest_ids_go_through(folder, tmp_path):
    shutil.copy(folder / "a.mp4", tmp_path)
    write_manifest(tmp_path, [Clip("头" * 66 + "ab", "a.mp4", 25.0, 87)])
    assert preprocess(config_of(tmp_path, tmp_path / "out", caches=("text",), sheets=1))
    assert check_manifest(tmp_path / "out") == []
    assert read_report(tmp_path / "out")["reasons"] == {}


def test_folders_without_a_manifest_go_through(folder, tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "a.mp4").write_bytes((folder / "a.mp4").read_bytes())
    assert preprocess(config_of(inside, tmp_path / "out", caches=("text",)))
    assert {clip.source.video for clip in read_manifest(tmp_path / "out")} == {"../in/a.mp4"}


def test_preprocessed_folders_are_refused_as_input(done, tmp_path):
    with pytest.raises(ValueError, match="is preprocessed already"):
        preprocess(config_of(done, tmp_path))


# --- memory ---------------------------------------------------------------------------------------


def held_at_the_end(tmp_path, monkeypatch, videos):
    """Bytes that a job holds for Python and numpy when its last clip is stored, and its clips."""
    folder, output = tmp_path / f"in{videos}", tmp_path / f"out{videos}"
    folder.mkdir()
    first = write_video(folder / "0.mkv", every(25, 4), options={"g": "25"})
    for number in range(1, videos):
        shutil.copy(first, folder / f"{number}.mkv")
    held = []

    def measured(*values):
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        return merge(*values)

    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    monkeypatch.setattr("flowact.data.preprocess.merge", measured)
    preprocess(config_of(folder, output, min_seconds=0.48, max_seconds=0.48))
    return held[0] - before, len(read_manifest(output))


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path, monkeypatch):
    """Of frames, tensors and records nothing is held, but the ids of what is stored."""
    tracemalloc.start()
    held_at_the_end(tmp_path, monkeypatch, 5)  # what is loaded once, or kept of the last few
    few, fewer_clips = held_at_the_end(tmp_path, monkeypatch, 2)
    # So many, since now and then some 20 KB more are loaded in between.
    many, more_clips = held_at_the_end(tmp_path, monkeypatch, 10)
    tracemalloc.stop()
    assert more_clips - fewer_clips == 56
    assert (many - few) / (more_clips - fewer_clips) < 1000
