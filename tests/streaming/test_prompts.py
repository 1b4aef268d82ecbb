"""Prompt schedules: which prompt a chunk gets, and what a bad file is answered."""

import json
import logging
import re
from importlib.resources import files

import pytest

from flowact.geometry import Geometry
from flowact.streaming.prompts import Prompt, PromptSchedule, load_schedule

PAPER = Geometry()
SECOND = Geometry(chunk_latents=2, depth=4, long_term=2)


def write(folder, content):
    path = folder / "prompts.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def prompt_by_frames(schedule, chunk):
    """The rule said frame by frame: the last prompt begun when the prompt frame is shown."""
    geometry = schedule.geometry
    frame = chunk * geometry.chunk_frames + geometry.prompt_frame
    text = ""
    for prompt in schedule.prompts:
        if prompt.start * geometry.fps <= frame + 1e-9:  # products round by less than 1e-9 here
            text = prompt.text
    return text


@pytest.mark.parametrize("geometry", [PAPER, SECOND])
def test_a_chunk_gets_the_prompt_in_force_at_its_prompt_frame(geometry):
    prompts = tuple(Prompt(0.3 * k, f"prompt {k}") for k in range(1, 20))
    schedule = PromptSchedule(prompts, geometry)
    given = [schedule.at(chunk) for chunk in range(30)]
    assert given == [prompt_by_frames(schedule, chunk) for chunk in range(30)]
    assert given[0] == ""
    assert given[-1] == "prompt 19"


def test_a_prompt_that_starts_on_the_prompt_frame_holds_and_one_frame_later_does_not():
    # Frame 6 of chunk 0 is shown at 0.24 s and frame 7 at 0.28 s.
    for start, expected in ((0.24, "She waves."), (0.28, "")):
        schedule = PromptSchedule((Prompt(start, "She waves."),), PAPER)
        assert schedule.at(0) == expected
        assert schedule.at(1) == "She waves."


def test_every_frame_time_written_with_two_decimals_holds_from_its_frame():
    for chunk in range(0, 200_000, 997):
        frame = chunk * PAPER.chunk_frames + PAPER.prompt_frame
        start = float(f"{frame * 4 // 100}.{frame * 4 % 100:02d}")
        assert PromptSchedule((Prompt(start, "now"),), PAPER).at(chunk) == "now"


def test_constant_and_empty_schedules():
    assert {PromptSchedule.constant("She sings.", PAPER).at(c) for c in range(9)} == {"She sings."}
    assert {PromptSchedule((), PAPER).at(c) for c in range(9)} == {""}


@pytest.mark.parametrize("starts", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (float("nan"),)])
def test_prompts_out_of_order_are_refused(starts):
    with pytest.raises(ValueError, match="prompt starts are"):
        PromptSchedule(tuple(Prompt(start, "text") for start in starts), PAPER)


def test_prompts_past_the_end_are_named(caplog):
    schedule = PromptSchedule(
        (Prompt(0, "a"), Prompt(2.5, "b"), Prompt(8, "c"), Prompt(90, "d")), PAPER
    )
    with caplog.at_level(logging.WARNING):
        schedule.warn_of_late(8.0)
    assert caplog.messages == [
        "prompts that start at 8 s, 90 s are not seen: the stream ends at 8.00 s"
    ]
    caplog.clear()
    schedule.warn_of_late(90.1)
    assert caplog.messages == []


def test_load(tmp_path, caplog):
    path = write(
        tmp_path, [{"start": 0, "text": "She talks."}, {"text": "She waves.", "start": 1.5}]
    )
    schedule = load_schedule(path, PAPER)
    assert schedule == PromptSchedule((Prompt(0.0, "She talks."), Prompt(1.5, "She waves.")), PAPER)
    assert load_schedule(write(tmp_path, []), PAPER).prompts == ()
    assert caplog.messages == []


def test_unsorted_prompts_are_sorted_and_said(tmp_path, caplog):
    path = write(tmp_path, [{"start": 4, "text": "b"}, {"start": 1, "text": "a"}])
    assert load_schedule(path, PAPER).prompts == (Prompt(1.0, "a"), Prompt(4.0, "b"))
    assert caplog.messages == [
        f"{path}: the prompts are not in order of their starts; they were sorted"
    ]


@pytest.mark.parametrize(
    "text", ["她在挥手。", "إنها تلوّح بيدها", "👩🏽‍🦱 waves 👋", "नमस्ते", "", "\x00\x1b[2J"]
)
@pytest.mark.parametrize("escaped", [True, False])
def test_any_script_comes_through_unchanged(tmp_path, text, escaped):
    content = json.dumps([{"start": 0.0, "text": text}], ensure_ascii=escaped)
    assert load_schedule(write(tmp_path, content), PAPER).at(0) == text


def test_half_a_surrogate_pair_is_left_to_the_encoder(tmp_path):
    content = r'[{"start": 0, "text": "\ud83d"}]'
    assert load_schedule(write(tmp_path, content), PAPER).at(0) == "\ud83d"


def test_a_byte_order_mark_is_no_part_of_the_schedule(tmp_path):
    content = '[{"start": 0, "text": "She waves."}]'.encode("utf-8-sig")
    assert load_schedule(write(tmp_path, content), PAPER).at(0) == "She waves."


BAD = {
    "empty": (b" \n", "is empty; write a list"),
    "malformed": ('[{"start": 0.0\n "text": "a"}]', "line 2, column 2 is not JSON"),
    "not utf-8": (b'[{"start": 0, "text": "caf\xe9"}]', "byte 26 is not UTF-8; save the file as"),
    "utf-16": ('[{"start": 0, "text": "a"}]'.encode("utf-16"), "byte 0 is not UTF-8"),
    "too deep": ("[" * 100_000, "is nested too deeply"),
    "an object": ({"start": 0, "text": "a"}, "it must hold a list such as"),
    "a text": ('"She waves."', "it must hold a list such as"),
    "entry no object": ([{"start": 0, "text": "a"}, "b"], "entry [1] is 'b'; write {"),
    "no start": ([{"text": "a"}], "entry [0] has no key 'start'"),
    "no text": ([{"start": 0}], "entry [0] has no key 'text'"),
    "misspelt": ([{"strat": 0, "text": "a"}], "unknown key 'strat'; did you mean 'start'?"),
    "unknown": (
        [{"start": 0, "text": "a", "seed": 1}],
        "unknown key 'seed'; the keys are 'start' and 'text'",
    ),
    "negative": ([{"start": -0.5, "text": "a"}], "entry [0]: start is -0.5; it must be a number"),
    "not a number": ('[{"start": NaN, "text": "a"}]', "entry [0]: start is nan"),
    "infinite": ('[{"start": Infinity, "text": "a"}]', "entry [0]: start is inf"),
    "beyond floats": ('[{"start": 1' + "0" * 9000 + ', "text": "a"}]', "entry [0]: start is inf"),
    "a string": ([{"start": "0", "text": "a"}], "entry [0]: start is '0'"),
    "a boolean": ([{"start": True, "text": "a"}], "entry [0]: start is True"),
    "null": ([{"start": None, "text": "a"}], "entry [0]: start is None"),
    "number as text": ([{"start": 0, "text": 5}], "entry [0]: text is 5.0; it must be a string"),
    "null as text": ([{"start": 0, "text": None}], "entry [0]: text is None; it must be a string"),
    "twice": (
        [{"start": 1, "text": "a"}, {"start": 0, "text": "b"}, {"start": 1.0, "text": "c"}],
        "entries [0] and [2] both start at 1 s",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_schedule(path, PAPER)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert len(said) < len(str(path)) + 200


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.json: cannot be read \(No such file"):
        load_schedule(tmp_path / "absent.json", PAPER)
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory"):
        load_schedule(tmp_path, PAPER)


def test_the_bundled_schedule_fills_the_bundled_speech(caplog):
    schedule = load_schedule(files("flowact") / "assets" / "prompts.json", PAPER)
    chunks = PAPER.chunks(frames=8 * PAPER.fps)  # 8 s of speech, see flowact/assets/README.md
    schedule.warn_of_late(8.0)
    texts = {schedule.at(chunk) for chunk in range(chunks)}
    assert texts == {prompt.text for prompt in schedule.prompts}
    assert "" not in texts
    assert caplog.messages == []
