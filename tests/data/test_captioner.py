"""Captions from an endpoint: what is asked, and that no answer is fatal. A real server answers."""

import base64
import io
import json

import numpy as np
import pytest
from chat_server import parts_of, server
from PIL import Image

from flowact import endpoint
from flowact.data.captioner import Captioner
from flowact.data.manifest import Clip, Interval
from flowact.data.plan import Material
from flowact.data.settings import CaptionerConfig
from flowact.geometry import Geometry

GEOMETRY = Geometry()
FRAMES = 12 * GEOMETRY.chunk_frames + 1  # intervals of 5, 5 and 2 chunks
GOOD = '```json\n{"state": "listen", "caption": " She nods. "}\n```'


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(endpoint, "BACKOFF", 0.01)


def material(**changes):
    clip = Clip("a-000000", "a.mp4", 25.0, FRAMES, **changes)
    frames = np.broadcast_to(
        np.arange(FRAMES, dtype=np.uint8)[:, None, None, None], (FRAMES, 32, 48, 3)
    )
    return Material("a", clip, frames, np.zeros(100, np.float32))


def captioner(url, **changes):
    values = {"url": url, "model": "vlm", "parallel": 1, "timeout": 5.0} | changes
    return Captioner(CaptionerConfig(**values), GEOMETRY)


def is_about_looks(request):
    return len(parts_of(request, "image_url")) == 1


def test_intervals_are_described_one_by_one(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with server(lambda request, number: (200, GOOD)) as (url, requests):
        clip = captioner(url, key_variable="MY_KEY").describe(material())
    first, second = 1 / GEOMETRY.fps, 5 * GEOMETRY.chunk_seconds
    spans = [(first, first + second), (first + second, first + 2 * second)]
    spans.append((spans[1][1], FRAMES / GEOMETRY.fps))
    assert [(i.start, i.end) for i in clip.intervals] == [pytest.approx(span) for span in spans]
    assert {(i.state, i.caption) for i in clip.intervals} == {("listen", "She nods.")}
    assert clip.appearance == "She nods."
    assert {(r["path"], r["key"], r["model"]) for r in requests} == {
        ("/v1/chat/completions", "Bearer secret", "vlm")
    }


def test_frames_shown_are_those_of_the_interval():
    with server(lambda request, number: (200, GOOD)) as (url, requests):
        captioner(url, frames=4).describe(material())
    shown = []
    for request in requests:
        if not is_about_looks(request):
            urls = [part["url"] for part in parts_of(request, "image_url")]
            data = [base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in urls]
            shown.append([np.asarray(Image.open(io.BytesIO(d))).mean() for d in data])
    # Frame i is of grey level i; JPEG may move a flat grey by a level.
    assert (
        np.abs(np.array(shown) - [[1, 21, 40, 60], [61, 81, 100, 120], [121, 129, 136, 144]]).max()
        < 2
    )


def test_described_clips_are_left_alone():
    told = (Interval(0.0, 1.0, "idle", "He waits."),)
    with server(lambda request, number: (200, GOOD)) as (url, requests):
        assert captioner(url).describe(material(intervals=told)).intervals == told
    assert requests == []


def test_an_appearance_that_is_there_is_kept():
    with server(lambda request, number: (200, GOOD)) as (url, _):
        assert captioner(url).describe(material(appearance="A man.")).appearance == "A man."


@pytest.mark.parametrize(
    "bad",
    [
        "no JSON",
        '{"state": "dance", "caption": "x"}',
        '{"state": "idle"}',
        "[1]",
        "{",
        '{"state": "idle", "caption": 3}',
    ],
)
def test_a_bad_answer_leaves_its_interval_out(bad):
    def answer(request, number):
        return 200, bad if "2.4 seconds" not in json.dumps(request) else GOOD

    with server(answer) as (url, _):
        asked = captioner(url, attempts=1)
        clip = asked.describe(material(appearance="A man."))
    assert len(clip.intervals) == 2  # those of 2.4 s; the last is shorter
    assert asked.failed == 1


def test_a_busy_server_is_asked_again():
    with server(lambda request, number: (503 if number % 2 else 200, GOOD)) as (url, requests):
        asked = captioner(url)
        assert len(asked.describe(material()).intervals) == 3
    assert asked.failed == 0
    assert len(requests) == 8


def test_a_refusal_is_not_repeated():
    with server(lambda request, number: (401, "")) as (url, requests):
        asked = captioner(url)
        assert asked.describe(material()).intervals == ()
    assert asked.failed == len(requests) == 4


def test_no_server_is_not_fatal():
    with server(lambda request, number: (200, GOOD)) as (url, _):
        pass
    asked = captioner(url, attempts=2)
    assert asked.describe(material()).intervals == ()
    assert asked.failed == 4


def test_settings_that_cannot_work_are_named():
    with pytest.raises(ValueError, match=r"captioner\.url and captioner\.model go together"):
        CaptionerConfig(url="http://localhost")
    with pytest.raises(ValueError, match="must start with http"):
        CaptionerConfig(url="localhost:8000", model="a")
