"""What is on screen and heard when: against flashes and clicks at known times."""

import av
import numpy as np
import pytest
from realdata import realdata
from video_files import click_times, every, flash_frames, write_video

from flowact.data.frames import FrameReader
from flowact.data.sound import SoundReader, sound_span
from flowact.data.video import TIE_SECONDS, VideoFacts, inspect_video
from flowact.geometry import Geometry
from flowact.media.audio import stream_audio

FPS, RATE = Geometry().fps, Geometry().sample_rate
EVENTS = (0.5, 1.25, 2.0, 2.75)
# Half a frame, and what a moment between two frames is moved by to choose one of them.
HALF_FRAME = 0.5 / FPS + TIE_SECONDS


def uneven(seconds):
    """A variable rate: 8 to 60 frames a second."""
    steps = np.random.default_rng(5).uniform(1 / 60, 1 / 8, 500)
    times = np.concatenate([[0.0], np.cumsum(steps)])
    # Events are given frames of their own, as a camera's would have.
    return sorted({*times[times < seconds].round(4).tolist(), *EVENTS})


VIDEOS = {
    "23.976.mp4": every(24_000 / 1001, 3.5),
    "25.mp4": every(25, 3.5),
    "29.97.mp4": every(30_000 / 1001, 3.5),
    "30.mkv": every(30, 3.5),
    "50.mp4": every(50, 3.5),
    "60.mkv": every(60, 3.5),
    "variable.mkv": uneven(3.5),
    "variable.mp4": uneven(3.5),
    "stream.ts": every(25, 3.5),
    "late.mp4": every(25, 3.5, start=0.3),
    "late.mkv": every(30, 3.5, start=0.3),
}


def all_frames(facts):
    return FrameReader(facts, facts.height, facts.width).read(facts.shown(FPS))


def heard(path, facts, seconds, offset=0.0):
    reader = SoundReader(path, RATE, facts.start + offset)
    # In windows that overlap, as clips ask for them.
    windows = [reader.read(start, RATE + 100)[:RATE] for start in range(0, seconds * RATE, RATE)]
    return np.concatenate(windows)


def first_at(times, event):
    """When a source shows an event: at the first frame that is not before it."""
    return min(time for time in times if time >= event - 1e-6)


@pytest.mark.parametrize("name", VIDEOS)
def test_pictures_and_sound_keep_their_times(tmp_path, name):
    times = VIDEOS[name]
    path = write_video(tmp_path / name, times, EVENTS, EVENTS, sound_start=0.0)
    facts = inspect_video(path)
    found = flash_frames(all_frames(facts)) / FPS
    shown = np.array([first_at(times, event) for event in EVENTS]) - times[0]
    assert np.abs(found - shown).max() <= HALF_FRAME
    clicks = click_times(heard(path, facts, 4), RATE) - (np.array(EVENTS) - times[0])
    # Containers round the time of a packet to a millisecond; the codec smears a burst's onset.
    assert np.abs(clicks).max() < 1e-3


def test_frames_at_half_the_rate_are_every_other_one():
    """At 50 frames a second the moments lie between frames; the choice must not flicker."""
    for jitter in (0.0, 4e-4, -4e-4):  # of time stamps in whole milliseconds
        times = np.arange(100) / 50 + jitter * np.sin(np.arange(100))
        facts = VideoFacts(None, 0.0, times, 2.0, 1, 1, 0)
        assert facts.shown(FPS).tolist() == list(range(0, 100, 2))


@pytest.mark.parametrize("rate", [23.976, 24, 25, 29.97, 30, 48, 50, 59.94, 60, 120])
def test_events_are_not_moved_on_average(rate):
    """By how much: at most half a frame, and by nothing over many events of an uneven rate."""
    times = np.arange(int(rate * 60)) / rate
    shown = VideoFacts(None, 0.0, times, 60.0, 1, 1, 0).shown(FPS)
    assert len(shown) == 60 * FPS
    moved = np.searchsorted(shown, np.unique(shown)) / FPS - times[np.unique(shown)]
    assert np.abs(moved).max() <= HALF_FRAME
    if rate < FPS:
        # The moments are TIE_SECONDS early; the rest is what 60 s leave of a beat.
        assert abs(moved.mean() - TIE_SECONDS) < 1e-3


@pytest.mark.parametrize("start", [0.4, -0.25])
def test_sound_that_starts_late_or_early_stays_in_time(tmp_path, start):
    """Relative to the picture, which starts at 0.5."""
    times = every(25, 3.5, start=0.5)
    path = write_video(tmp_path / "a.mkv", times, EVENTS[1:], EVENTS[1:], sound_start=0.5 + start)
    facts = inspect_video(path)
    clicks = click_times(heard(path, facts, 4), RATE)
    assert np.abs(clicks - (np.array(EVENTS[1:]) - 0.5)).max() < 1e-3
    assert sound_span(path, RATE).start == pytest.approx(0.5 + start, abs=2e-3)


def test_late_sound_is_moved_back_by_its_offset(tmp_path):
    path = write_video(tmp_path / "a.mp4", every(25, 3.5), clicks=[t + 0.08 for t in EVENTS])
    clicks = click_times(heard(path, inspect_video(path), 4, offset=0.08), RATE)
    assert np.abs(clicks - EVENTS).max() < 1e-3


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
@pytest.mark.parametrize(
    ("turn", "corner"), [(0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (-90, (0, 1))]
)
def test_phones_are_held_in_every_way(tmp_path, turn, corner, codec, capfd):
    """Turned counter-clockwise; decord reads the first file, PyAV the second."""
    options = {"preset": "12"} if codec == "libsvtav1" else None
    path = write_video(tmp_path / "a.mp4", every(25, 0.4), codec=codec, turn=turn, options=options)
    facts = inspect_video(path)
    assert (facts.height, facts.width) == ((96, 64) if turn in (90, -90) else (64, 96))
    frame = all_frames(facts)[3].astype(int)
    red = frame[..., 0] - frame[..., 1] > 100
    rows, columns = np.nonzero(red)
    found = (rows.mean() > facts.height / 2, columns.mean() > facts.width / 2)
    assert found == corner


def test_downscaling_leaves_no_moire(tmp_path):
    """Stripes of a pixel become grey: at most 10 % of their contrast is left."""
    stripes = np.zeros((480, 480, 3), np.uint8)
    stripes[:, ::2] = 255
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=480, height=480)
        stream.pix_fmt = "yuv444p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(stripes, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    facts = inspect_video(tmp_path / "a.mkv")
    small = FrameReader(facts, 64, 64).read(np.arange(2))
    assert small.std() < 0.1 * stripes.std()


def damaged(path, codec, kind, options=None):
    write_video(path, every(25, 4), codec=codec, clicks=[1.0], options=options)
    data = bytearray(path.read_bytes())
    if kind == "corrupt":  # the payload of some packets, not the index
        for begin in range(len(data) // 3, len(data) // 2, 97):
            data[begin] ^= 0x5A
    else:
        data = data[: len(data) // 2]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("a.mkv", "truncated", "is truncated: it ends at"),
        ("a.mp4", "truncated", "cannot be decoded"),
        ("a.mp4", "corrupt", "packets that cannot be decoded"),
    ],
)
def test_damage_is_found(tmp_path, name, kind, reason):
    # Noise, so that there is something to damage.
    with pytest.raises(ValueError, match=rf"{name}.*{reason}"):
        inspect_video(damaged(tmp_path / name, "libx264", kind, {"g": "50", "x264-params": "qp=1"}))


def test_other_files_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be decoded"):
        inspect_video(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty\.mp4 is empty"):
        inspect_video(tmp_path / "empty.mp4")


def test_real_video_shows_the_frames_of_its_times():
    """Output frame i is the source frame on screen in its middle, whatever decodes it."""
    for path in realdata("video"):
        facts = inspect_video(path)
        shown = facts.shown(FPS)[:60:12]
        found = FrameReader(facts, 240, 136).read(shown).astype(int)
        with av.open(str(path)) as container:
            frames = [frame for frame, _ in zip(container.decode(video=0), range(75), strict=False)]
        for i, (index, pixels) in enumerate(zip(shown, found, strict=True)):
            frame = frames[index]
            assert (
                0 <= (12 * i + 0.5) / FPS - frame.time <= np.diff(facts.times).max() + TIE_SECONDS
            )
            truth = frame.to_ndarray(format="rgb24", width=136, height=240).astype(int)
            # Two scalers differ by some 2 of 255 levels.
            assert np.abs(pixels - truth).mean() < 4


def test_real_sound_is_not_moved():
    """Against a decoding of the whole track, by the peak of their cross-correlation."""
    for path in realdata("video"):
        facts = inspect_video(path)
        whole = np.concatenate(list(stream_audio(path, RATE)))[: 8 * RATE]
        found = heard(path, facts, 8)
        size = 2 * len(found)
        spectrum = np.fft.rfft(found, size) * np.fft.rfft(whole, size).conj()
        lag = int(np.argmax(np.fft.irfft(spectrum)))
        start = round((sound_span(path, RATE).start - facts.start) * RATE)
        assert lag == start
