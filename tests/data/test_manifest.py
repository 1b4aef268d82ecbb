"""The manifest: what is written is read, and what is wrong is named with line, field and mend."""

import dataclasses
import json

import pytest

from flowact.data.form import form_findings
from flowact.data.manifest import (
    MANIFEST,
    Clip,
    Interval,
    Source,
    check_manifest,
    load_clips,
    read_manifest,
    to_values,
    write_manifest,
)
from flowact.data.scan import scan_folder

ACTOR = Clip(
    id="actor-0000001-t0",
    video="videos/a.mp4",
    fps=25.0,
    frames=250,
    appearance="A woman with “red” hair.",
    intervals=(
        Interval(0.0, 4.0, "speak", "She talks.", "wave"),
        Interval(4.5, 10.0, "", "她点头。"),
    ),
    truth="truth/a.safetensors",
    seeds={"identity": 2**62, "voice": 0},
)
REAL = Clip(
    id="talk_1-000121",
    video="../talk.mp4",
    fps=25.0,
    frames=121,
    audio="talk.wav",
    sync_offset=-0.04,
    source=Source("../talk.mp4", 4.84, 0, 101, 1080, 1080),
)


def line(**changes):
    """A line of one clip, well-formed but for the changes; None leaves a key out."""
    values = {"id": "a", "video": "a.mp4", "fps": 25, "frames": 50} | changes
    return json.dumps({key: value for key, value in values.items() if value is not None})


def problems_of(folder, *lines):
    (folder / "a.mp4").touch()
    (folder / MANIFEST).write_text("\n".join(lines))
    return check_manifest(folder)


def test_clips_are_read_as_they_were_written(tmp_path):
    write_manifest(tmp_path, [ACTOR, REAL])
    assert read_manifest(tmp_path) == [ACTOR, REAL]
    assert read_manifest(tmp_path / MANIFEST) == [ACTOR, REAL]
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_lines_hold_no_defaults():
    clip = Clip(id="a", video="a.mp4", fps=25.0, frames=50)
    assert to_values(clip).keys() == {"id", "video", "fps", "frames"}


def test_a_writer_that_fails_leaves_the_old_manifest(tmp_path):
    write_manifest(tmp_path, [ACTOR])

    def clips():
        yield REAL
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_manifest(tmp_path, clips())
    assert read_manifest(tmp_path) == [ACTOR]


INTERVAL = {"start": 0, "end": 1, "state": "speak", "caption": "She talks."}
WRONG = [  # changes, field, part of the message with the mend
    ({"video": None}, "video", "is missing; add it"),
    ({"vidoe": "a.mp4"}, "vidoe", "did you mean 'video'?"),
    ({"id": "a/b"}, "id", "letters, digits"),
    ({"id": "头" * 67}, "id", "200 bytes at most"),
    ({"fps": "25"}, "fps", "must be a finite number"),
    ({"fps": True}, "fps", "must be a finite number"),
    ({"fps": 0}, "fps", "must be above 0"),
    ({"frames": 2.5}, "frames", "must be a whole number"),
    ({"frames": -1}, "frames", "must be above 0"),
    ({"sync_offset": float("nan")}, "sync_offset", "must be a finite number"),
    ({"sync_offset": 40}, "sync_offset", "give seconds"),
    ({"appearance": ["red"]}, "appearance", "must be a text"),
    ({"seeds": {"voice": "1"}}, "seeds.voice", "must be a whole number"),
    ({"truth": "none.safetensors"}, "truth", "there is no file"),
    ({"audio": "none.wav"}, "audio", "there is no file"),
    ({"intervals": {}}, "intervals", "must be a list"),
    ({"intervals": [7]}, "intervals[0]", "must be an object"),
    ({"intervals": [INTERVAL | {"state": "talk"}]}, "intervals[0].state", "speak, listen"),
    ({"intervals": [INTERVAL | {"end": 0}]}, "intervals[0].end", "must be after start"),
    ({"intervals": [INTERVAL | {"end": 2.1}]}, "intervals[0].end", "the clip ends at 2"),
    ({"intervals": [INTERVAL, INTERVAL]}, "intervals[1].start", "1 or more"),
    ({"source": {"video": "a.mp4"}}, "source.start", "is missing"),
]


@pytest.mark.parametrize(("changes", "field", "mend"), WRONG)
def test_problems_name_line_field_and_mend(tmp_path, changes, field, mend):
    problems = problems_of(tmp_path, line(id="good"), line(**changes))
    found = [problem for problem in problems if problem.field == field]
    assert len(found) == 1
    assert found[0].line == 2
    assert mend in found[0].message
    assert str(found[0]).startswith(f"{tmp_path / MANIFEST}:2: {field}: ")


def test_problems_of_whole_lines(tmp_path):
    problems = problems_of(tmp_path, "{", line(), "", "[1]", line(), '{"id": ' * 100_000)
    assert [(problem.line, problem.field) for problem in problems] == [
        (1, ""),
        (4, ""),
        (5, "id"),
        (6, ""),
    ]
    assert "also that of line 2" in problems[2].message


@pytest.mark.parametrize("text", [rb"caf\u00e9 \ud83d", "café".encode("latin-1")])
def test_captions_that_no_file_can_hold_are_named(tmp_path, text):
    good = line(appearance="?").encode()
    (tmp_path / MANIFEST).write_bytes(good.replace(b"?", text))
    _, problems = load_clips(tmp_path)
    assert len(problems) == 1
    assert "is not JSON in UTF-8" in problems[0].message


def test_good_lines_are_read_beside_bad_ones(tmp_path):
    problems_of(tmp_path, "{", line())
    clips, problems = load_clips(tmp_path)
    assert [clip.id for clip in clips] == ["a"]
    assert len(problems) == 1
    with pytest.raises(ValueError, match=r"manifest\.jsonl:1: is not JSON"):
        read_manifest(tmp_path)


def test_a_good_manifest_has_no_problem(tmp_path):
    assert (
        problems_of(tmp_path, line(intervals=[INTERVAL, INTERVAL | {"start": 1, "end": 2.01}]))
        == []
    )


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.jsonl cannot be read: No such file"):
        read_manifest(tmp_path)


def test_ids_of_a_scanned_folder_are_distinct_and_can_name_files(tmp_path):
    names = ["a b.mp4", "a_b.mp4", "c/d.mkv", "c/d.mp4", "e.MOV", ".hidden.mp4", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clips = scan_folder(tmp_path)
    assert [clip.video for clip in clips] == ["a b.mp4", "a_b.mp4", "c/d.mkv", "c/d.mp4", "e.MOV"]
    ids = [clip.id for clip in clips]
    assert len(set(ids)) == 5
    assert ids[-1] == "e"
    assert all(not list(form_findings(to_values(clip), Clip)) for clip in clips)
    assert ids == [clip.id for clip in scan_folder(tmp_path)]


def test_ids_of_long_paths_are_ids(tmp_path):
    folder = tmp_path / ("影" * 80) / ("像" * 80)
    folder.mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / name).touch()
    clips = [dataclasses.replace(clip, fps=25.0, frames=50) for clip in scan_folder(tmp_path)]
    write_manifest(tmp_path, clips)
    assert check_manifest(tmp_path) == []
    assert len({clip.id for clip in clips}) == 2


def test_a_folder_without_videos_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no video"):
        scan_folder(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        scan_folder(tmp_path / "none")
