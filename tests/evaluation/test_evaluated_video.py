"""Any file is read on the clock of its own time stamps, picture and sound alike."""

from fractions import Fraction

import av
import numpy as np
import pytest

from flowact.evaluation.video import open_video, read_frames, read_sound
from flowact.geometry import Geometry
from flowact.media.writer import VideoWriter

GEOMETRY = Geometry()
RATE = GEOMETRY.sample_rate


def write_video(path, times, grey, sound_start=None):
    """A lossless video with a plain frame of ``grey[i]`` at ``times[i]`` (milliseconds).

    From ``sound_start`` seconds on it has a second of sound: noise, the loudest at its beginning.
    """
    with av.open(str(path), "w") as container:
        picture = container.add_stream("ffv1", rate=25, width=32, height=16)
        picture.time_base = picture.codec_context.time_base = Fraction(1, 1000)
        sound = None
        if sound_start is not None:
            sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for time, level in zip(times, grey, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), level, np.uint8), "rgb24")
            frame = frame.reformat(format="yuv444p")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if sound is not None:
            noise = np.random.default_rng(0).uniform(-1, 1, RATE) * np.linspace(30_000, 3000, RATE)
            frame = av.AudioFrame.from_ndarray(noise.astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, round(sound_start * RATE)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def levels(video, **how):
    return np.concatenate(list(read_frames(video, **how)))[:, 8, 16, 0].astype(int)


def test_a_constant_rate_gives_every_frame_once(tmp_path):
    grey = np.arange(50) * 5
    video = open_video(write_video(tmp_path / "a.mkv", np.arange(50) * 40, grey))
    assert (video.height, video.width, video.fps, video.sound_delay) == (16, 32, 25, None)
    assert np.abs(levels(video) - grey).max() <= 2  # of RGB to YUV and back
    blocks = [len(block) for block in read_frames(video, block=20)]
    assert blocks == [20, 20, 10]


@pytest.mark.parametrize("fps", [24, 30, 50])
def test_another_rate_is_brought_onto_the_clock(tmp_path, fps):
    """Frame k is what is shown in the middle of its time."""
    times = np.round(np.arange(2 * fps) * 1000 / fps).astype(int)
    grey = np.arange(2 * fps) * 2
    video = open_video(write_video(tmp_path / "a.mkv", times, grey))
    middles = (np.arange(50) + 0.5) * 40
    shown = np.searchsorted(times, middles, side="right") - 1
    assert np.abs(levels(video, fps=25.0)[:50] - grey[shown]).max() <= 2


def test_a_varying_rate_is_brought_onto_the_clock(tmp_path):
    times, grey = [0, 40, 400, 440, 480], [10, 60, 110, 160, 210]
    found = levels(open_video(write_video(tmp_path / "a.mkv", times, grey)), fps=25.0)
    expected = [10, *[60] * 9, 110, 160, 210]
    assert np.abs(found[: len(expected)] - expected).max() <= 2


@pytest.mark.parametrize("start", [0.0, 0.4, 1.25])
def test_late_sound_stays_late(tmp_path, start):
    times = np.arange(75) * 40
    video = open_video(write_video(tmp_path / "a.mkv", times, times // 40, sound_start=start))
    assert video.sound_delay == pytest.approx(start, abs=0.001)  # the container's milliseconds
    sound = np.concatenate(list(read_sound(video, GEOMETRY)))
    first = np.flatnonzero(np.abs(sound) > 0.01)[0] / RATE
    assert first == pytest.approx(start, abs=0.002)


def test_what_the_writer_writes_is_in_sync(tmp_path, write_wav):
    """AAC's priming is no delay."""
    sound = np.zeros(2 * RATE, np.float32)
    sound[RATE : RATE + 800] = 0.5
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 32, 32, 25, write_wav(sound), metadata={}) as writer:
        writer.write(np.zeros((50, 32, 32, 3), np.uint8))
    video = open_video(path)
    assert video.sound_delay == pytest.approx(0, abs=0.001)
    heard = np.concatenate(list(read_sound(video, GEOMETRY)))
    loud = np.flatnonzero(np.abs(heard) > 0.25)[0] / RATE
    assert loud == pytest.approx(1, abs=0.005)  # the codec spreads an edge over a few milliseconds


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.mp4 cannot be opened"):
        open_video(tmp_path / "nothing.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be decoded .*encode it again"):
        open_video(text)
