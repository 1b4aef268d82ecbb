"""Prompts that are decided as the stream goes: never late, never changed, and made again."""

import base64
import io
import json
import socket
import threading
import time
import wave

import numpy as np
import pytest
import torch
from chat_server import parts_of, server
from PIL import Image

from flowact.config import load_config
from flowact.endpoint import EndpointConfig, NoAnswerError
from flowact.geometry import Geometry
from flowact.rng import keyed_normal
from flowact.runs import SampleConfig
from flowact.sampling import sample
from flowact.streaming.planner import EndpointPlanner, Moment, PlannedPrompts

GEOMETRY = Geometry()
SECOND = GEOMETRY.sample_rate


def planned(planner, **changes):
    return PlannedPrompts(planner, GEOMETRY, "She sits.", **changes)


def test_it_is_asked_at_intervals_and_a_chunk_keeps_its_prompt():
    moments = []

    def planner(moment):
        moments.append(moment)
        return f"Plan {len(moments)}."

    prompts = planned(planner, every=3, wait=True)
    prompts.hear(torch.zeros(SECOND))
    told = []
    for newest in range(8):  # as a queue of three chunks asks
        told.append([prompts.at(chunk) for chunk in range(max(0, newest - 2), newest + 1)])
    expected = [f"Plan {1 + chunk // 3}." for chunk in range(8)]
    assert told == [expected[max(0, n - 2) : n + 1] for n in range(8)]
    assert [moment.doing for moment in moments] == ["She sits.", "Plan 1.", "Plan 2."]
    assert moments[0].ahead == pytest.approx(3 * 0.48)
    assert (prompts.asked, prompts.failed) == (3, 0)
    assert [prompts.schedule.at(chunk) for chunk in range(8)] == expected


@pytest.mark.parametrize("cut", [1_000, 20_000, 60_000])
def test_it_hears_the_latest_sound_before_a_chunk_and_no_more(cut):
    """However the sound is cut, and though it may be there long before."""
    heard = []
    prompts = planned(lambda moment: heard.append(moment.heard), seconds=1.0, wait=True, every=1)
    prompts.at(0)
    assert not heard  # there is nothing yet
    sound = keyed_normal((2, 60_000), "sound")  # of a batch: the first sample's counts
    pieces, received = list(sound.clone().split(cut, dim=1)), 0
    ends = [GEOMETRY.audio_end(chunk) for chunk in range(1, 6)]
    for chunk, end in enumerate(ends, start=1):
        while received < end:
            prompts.hear(piece := pieces.pop(0))
            received += piece.shape[1]
            piece.zero_()  # a source may use its memory again
        prompts.at(chunk)
    assert len(heard) == len(ends)
    for end, samples in zip(ends, heard, strict=True):
        assert np.array_equal(samples, sound[0, max(0, end - SECOND) : end].numpy())


def test_sound_that_comes_late_is_heard_as_far_as_it_is_there():
    heard = []
    prompts = planned(lambda moment: heard.append(len(moment.heard)), wait=True, every=1)
    for chunk, samples in enumerate((0, 100, 100)):
        prompts.hear(torch.zeros(samples, dtype=torch.bfloat16))
        prompts.at(chunk)
    assert heard == [100, 200]


def test_the_stream_never_waits_for_a_slow_planner():
    """What it says counts from the next chunk on; meanwhile it is asked nothing else."""
    go, asked = threading.Event(), threading.Semaphore(0)

    def planner(moment):
        asked.release()
        assert go.wait(10)
        return "She waves."

    prompts = planned(planner, every=2)
    prompts.hear(torch.zeros(SECOND))
    assert [prompts.at(chunk) for chunk in range(6)] == ["She sits."] * 6
    assert asked.acquire(timeout=10)
    assert prompts.asked == 1
    go.set()
    chunk = 6
    while prompts.at(chunk) == "She sits.":  # the answer is on its way
        time.sleep(0.01)
        chunk += 1
    assert prompts.at(5) == "She sits."
    assert prompts.at(chunk) == prompts.schedule.at(chunk) == "She waves."
    assert prompts.schedule.at(chunk - 1) == "She sits."


def test_a_planner_that_fails_changes_nothing_and_an_old_plan_ends(caplog):
    answers = iter(["She waves.", None, ValueError("no idea"), None, "She nods."])

    def planner(moment):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    prompts = planned(planner, every=1, hold=3, wait=True)
    prompts.hear(torch.zeros(SECOND))
    told = [prompts.at(chunk) for chunk in range(5)]
    assert told == [*["She waves."] * 3, "She sits.", "She nods."]
    assert prompts.failed == 3
    assert [record.getMessage() for record in caplog.records] == [
        "the planner gave no action (no idea); the prompt stays as it is"
    ]


def test_settings_that_cannot_work_are_named():
    for name in ("every", "seconds", "hold"):
        for value in (0, float("inf")):
            with pytest.raises(ValueError, match=f"{name} is {value}; it must be above 0, and"):
                planned(lambda moment: None, **{name: value})


@pytest.mark.parametrize("cut", [None, 5_000])
def test_a_planned_stream_is_that_of_its_schedule(tiny_pipeline, picture, cut):
    """Bit for bit, however the sound is cut."""

    def stream(prompts):
        session = tiny_pipeline.session(picture, prompts)
        sound = 0.1 * keyed_normal((6 * GEOMETRY.chunk_samples,), "sound")
        out = []
        for piece in [sound] if cut is None else sound.split(cut):
            session.push(piece)
            out += list(session.run())
        session.end()
        return torch.cat(out + list(session.run()), dim=1)

    plans = iter(["She waves.", "She nods.", "She claps."])
    prompts = planned(lambda moment: next(plans), every=2, wait=True)
    frames = stream(prompts)
    assert [p.text for p in prompts.schedule.prompts] == ["She waves.", "She nods.", "She claps."]
    assert torch.equal(frames, stream(prompts.schedule))
    assert not torch.equal(frames, stream("She waves."))


def test_a_model_is_shown_the_image_and_played_the_sound():
    image = np.full((40, 60, 3), 77, np.uint8)
    sound = 0.3 * np.sin(np.arange(SECOND, dtype=np.float32) / 9)
    with server(lambda request, number: (200, 'So: {"action": " She waves. "}')) as (url, requests):
        planner = EndpointPlanner(EndpointConfig(url=url, model="mllm"), image, GEOMETRY)
        assert planner(Moment(sound, "She sits.", 2.4)) == "She waves."
    (request,) = requests
    assert request["model"] == "mllm"
    (text,) = [part["text"] for part in request["messages"][0]["content"] if part["type"] == "text"]
    assert "1.0\nseconds" in text
    assert "'She sits.'" in text
    assert "next 2.4 seconds" in text
    (shown,), (played,) = parts_of(request, "image_url"), parts_of(request, "input_audio")
    jpeg = base64.b64decode(shown["url"].removeprefix("data:image/jpeg;base64,"))
    assert np.asarray(Image.open(io.BytesIO(jpeg))).shape == image.shape
    with wave.open(io.BytesIO(base64.b64decode(played["data"]))) as file:
        assert (file.getframerate(), file.getnchannels()) == (SECOND, 1)
        samples = np.frombuffer(file.readframes(SECOND), "<i2") / 32767
    assert np.abs(samples - sound).max() <= 0.5 / 32767 + 1e-7  # rounded to 16 bits
    assert played["format"] == "wav"


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (200, "no JSON", "substring not found"),
        (200, "{}", "an answer without an action"),
        (200, '{"action": 3}', "an answer without an action"),
        (200, '{"action": " "}', "an answer without an action"),
        (200, None, "NoneType"),  # as models that were cut short answer
        (401, "", "model mllm: HTTPError: HTTP Error 401"),
    ],
)
def test_an_answer_that_is_none_says_why(status, answer, why):
    with (
        server(lambda request, number: (status, answer)) as (url, _),
        pytest.raises(NoAnswerError, match=why),
    ):
        asked(url)
    with pytest.raises(NoAnswerError, match="Connection refused"):
        asked(url)


def test_a_server_that_speaks_no_http_says_so():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def babble():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"hello\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()
        with pytest.raises(NoAnswerError, match=r"BadStatusLine|ConnectionReset"):
            asked(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")


def asked(url):
    config = EndpointConfig(url=url, model="mllm", attempts=1, timeout=5.0)
    planner = EndpointPlanner(config, np.zeros((8, 8, 3), np.uint8), GEOMETRY)
    return planner(Moment(np.zeros(9, np.float32), "", 2.4))


@pytest.fixture
def words(tiny_pipeline, picture, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "weights")
    picture.save(tmp_path / "face.png")
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, SECOND, 0, "NONE", ""))
        file.writeframes(bytes(2 * 4 * SECOND))
    given = {"weights": "weights", "image": "face.png", "audio": "speech.wav"}
    return [f"{name}={tmp_path / file}" for name, file in given.items()] + ["precision=fp32"]


def test_a_video_is_planned_and_made_again_from_its_prompts(words, tmp_path):
    def answer(request, number):
        return 200, json.dumps({"action": f"She does {number}."})

    def run(name, *more):
        given = [*words, f"output={tmp_path / name}.mp4", *more]
        return sample(load_config("sample", given, SampleConfig))

    with server(answer) as (url, requests):
        report = run("planned", f"planner.url={url}", "planner.model=mllm", "prompt=She sits.")
    written = json.loads((tmp_path / "planned.prompts.json").read_text())
    assert written == [
        {"start": start, "text": f"She does {number}."}
        # The last is of a chunk that fills the queue when the sound has ended.
        for number, start in enumerate((0.0, 2.4, 4.8), start=1)
    ]
    assert report["planner"] == {
        "model": "mllm",
        "prompts": str(tmp_path / "planned.prompts.json"),
        "asked": len(requests),
        "failed": 0,
    }
    run("again", f"prompts={tmp_path / 'planned.prompts.json'}")
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "planned.mp4").read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["planner.url=http://x"], r"planner\.url and planner\.model go together"),
        (["planner.url=x", "planner.model=m"], "must start with http"),
        (["planner.url=http://x:y", "planner.model=m"], "Port could not be cast"),
        (["planner.every=0"], r"planner\.every is 0; it must be above 0"),
        (["planner.url=http://x", "planner.model=m", "prompts=p.json"], "are what planner writes"),
        (["planner.url=http://x", "planner.model=m", "parallel=frames"], "is for one process"),
    ],
)
def test_words_that_cannot_work_are_named(more, message):
    given = ["image=i", "audio=a", "output=o.mp4", *more]
    with pytest.raises(ValueError, match=message):
        load_config("sample", given, SampleConfig)
