import logging
import os
import wave

import av
import numpy as np
import pytest
from media_files import click_times, click_track, encode_audio
from realdata import realdata

from flowact.media.audio import audio_blocks, probe_audio, source_layout, stream_audio

CLICKS = (0.1, 0.5, 1.25, 1.9)
FORMATS = [  # file, codec, rate
    ("a.wav", "pcm_s16le", 44_100),
    ("a.wav", "pcm_u8", 8_000),
    ("a.wav", "pcm_s24le", 96_000),
    ("a.wav", "pcm_f32le", 24_000),
    ("a.wav", "pcm_f64le", 11_025),
    ("a.mp3", "libmp3lame", 44_100),
    ("a.mp3", "libmp3lame", 32_000),
    ("a.flac", "flac", 48_000),
    ("a.ogg", "flac", 22_050),
    ("a.opus", "libopus", 48_000),
    ("a.webm", "libopus", 48_000),
    ("a.m4a", "aac", 44_100),
    ("a.aiff", "pcm_s16be", 16_000),
]


def noise(channels, samples, level=0.1):
    return np.random.default_rng(0).normal(0, level, (channels, samples)).astype(np.float32)


def read(path, rate=16_000, **options):
    return np.concatenate(list(stream_audio(path, rate, **options)), axis=-1)


@pytest.mark.parametrize(("name", "codec", "rate"), FORMATS)
def test_every_format_keeps_its_time(tmp_path, name, codec, rate):
    path = encode_audio(tmp_path / name, click_track(2.0, CLICKS, rate), rate, codec)
    info = probe_audio(path)
    assert (info.sample_rate, info.channels, info.silent) == (rate, 1, False)
    # AAC in MP4 and raw MP3 may keep their last frame whole: 1,152 samples at most.
    assert 2.0 <= info.seconds <= 2.0 + 1152 / rate
    for rate_out in (16_000, 48_000):
        samples = read(path, rate_out)
        assert samples.dtype == np.float32
        assert abs(len(samples) - info.seconds * rate_out) <= 1
        # A burst's first loud sample is at most a quarter period (0.125 ms) late, the resamplers'
        # and codecs' pre-echo at most 1 ms early; priming left in would be 12 ms and more.
        np.testing.assert_allclose(click_times(samples, rate_out), CLICKS, atol=1e-3)


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac")])
def test_any_channel_count(tmp_path, name, codec, channels):
    path = encode_audio(tmp_path / name, noise(channels, 5000), 44_100, codec)
    assert probe_audio(path).channels == channels
    assert source_layout(path) == ("mono" if channels == 1 else "stereo")
    length = round(5000 / 44_100 * 16_000)
    assert abs(read(path).shape[0] - length) <= 1
    stereo = read(path, layout="stereo")
    assert stereo.shape[0] == 2
    assert abs(stereo.shape[1] - length) <= 1


def test_mono_is_the_mean_of_two_channels_and_stereo_is_kept(tmp_path):
    samples = noise(2, 16_000)
    path = encode_audio(tmp_path / "a.wav", samples, 16_000, "pcm_f32le")
    # 1e-6: float32 mixing of samples around 0.1.
    np.testing.assert_allclose(read(path), samples.mean(0), atol=1e-6)
    np.testing.assert_array_equal(read(path, layout="stereo"), samples)


def test_blocks_have_the_asked_length_and_change_nothing(tmp_path):
    path = encode_audio(tmp_path / "a.wav", noise(1, 50_000), 22_050, "pcm_s16le")
    whole = read(path, block_seconds=60)
    blocks = list(stream_audio(path, 16_000, block_seconds=0.48))
    assert {len(block) for block in blocks[:-1]} == {7680}
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("samples", [1, 10, 100, 639])
def test_the_shortest_sounds_have_their_length(tmp_path, samples):
    path = encode_audio(tmp_path / "a.wav", noise(1, samples), 48_000, "pcm_s16le")
    assert probe_audio(path).samples == samples
    assert abs(len(read(path)) - samples / 3) <= 1


@pytest.mark.parametrize(
    ("name", "codec", "start"), [("a.mp4", "aac", 0.0), ("a.mkv", "pcm_s16le", 0.7)]
)
def test_the_sound_of_a_video_starts_with_its_first_sample(tmp_path, name, codec, start):
    clicks = click_track(2.0, CLICKS, 44_100)
    path = encode_audio(tmp_path / name, clicks, 44_100, codec, start=start, frames=70)
    np.testing.assert_allclose(click_times(read(path), 16_000), CLICKS, atol=1e-3)


def test_a_change_of_rate_and_channels_within_a_file(tmp_path):
    first = encode_audio(tmp_path / "1.mp3", noise(2, 44_100), 44_100, "libmp3lame")
    second = encode_audio(tmp_path / "2.mp3", noise(1, 48_000), 48_000, "libmp3lame")
    both = tmp_path / "both.mp3"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    info = probe_audio(both)
    assert info.channels == 2
    # The second file's priming (1,105 samples) and its header frame are heard, being inside.
    assert info.seconds == pytest.approx(2.0, abs=0.1)
    assert abs(len(read(both)) - info.seconds * 16_000) <= 2


def test_level_is_kept_and_silence_is_noticed(tmp_path):
    def info_and_peak(name, samples):
        path = encode_audio(tmp_path / name, samples, 16_000, "pcm_f32le")
        return probe_audio(path).silent, np.abs(read(path)).max()

    loud = noise(1, 4000, level=1.0)
    assert info_and_peak("clipped.wav", loud) == (False, np.abs(loud).max())
    assert np.abs(loud).max() > 2
    quiet = noise(1, 4000, level=1e-3)
    assert info_and_peak("quiet.wav", quiet) == (False, np.abs(quiet).max())
    assert info_and_peak("silent.wav", np.zeros((1, 4000), np.float32)) == (True, 0.0)


UNREADABLE = {
    "missing": "No such file",
    "empty": "is empty",
    "directory": "is a directory",
    "text": "cannot be decoded",
    "random": "cannot be decoded",
    "no samples": "no sound that can be decoded",
    "only a picture": "no sound track",
    "cut before its index": "cannot be decoded",
}
NOT_FINITE = {kind: "not finite, after 2 s" for kind in ("nan", "inf", "1e30")}


def bad_audio(tmp_path, kind):
    path = tmp_path / f"{kind}.wav"
    samples = noise(1, 40_000)
    if kind == "empty":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "text":
        path.write_text("These are words.\n" * 50)
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif kind == "no samples":
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
    elif kind == "only a picture":
        with av.open(str(path), "w", format="mp4") as file:
            stream = file.add_stream("libx264", rate=25, width=64, height=64)
            file.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
            file.mux(stream.encode(None))
    elif kind == "cut before its index":
        m4a = encode_audio(tmp_path / "whole.m4a", samples, 44_100, "aac").read_bytes()
        path.write_bytes(m4a[: len(m4a) // 2])
    elif kind in NOT_FINITE:
        samples[0, 33_333] = float(kind)
        encode_audio(path, samples, 16_000, "pcm_f32le")
    return path


@pytest.mark.parametrize(("kind", "message"), (UNREADABLE | NOT_FINITE).items())
def test_what_is_no_sound_is_refused_by_name(tmp_path, kind, message):
    path = bad_audio(tmp_path, kind)
    with pytest.raises(ValueError, match=message) as error:
        probe_audio(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, av.FFmpegError)
    if kind in UNREADABLE:
        with pytest.raises(ValueError, match=message):
            list(stream_audio(path, 16_000))


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac")])
def test_broken_packets_are_left_out(tmp_path, caplog, name, codec):
    path = encode_audio(tmp_path / name, noise(1, 3 * 44_100), 44_100, codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, logger="flowact"):
        info = probe_audio(path)
    assert "broken packets left out" in caplog.text
    assert 2.5 < info.seconds < 3.0
    caplog.clear()
    assert abs(len(read(path)) - info.seconds * 16_000) <= 1
    assert not caplog.text  # it has been said once


def test_a_file_cut_short_is_heard_to_its_end(tmp_path):
    path = encode_audio(tmp_path / "a.wav", noise(1, 32_000), 16_000, "pcm_s16le")
    os.truncate(path, 32_000)
    assert probe_audio(path).seconds == pytest.approx(1.0, abs=0.01)


def test_odd_names_and_tags(tmp_path, monkeypatch):
    path = encode_audio(tmp_path / "a.wav", noise(1, 16_000), 16_000, "pcm_s16le")
    tagged = path.read_bytes().replace(b"Lavf", "Café".encode("latin-1"))  # this is not UTF-8
    assert tagged != path.read_bytes()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "12:30 #1 100%.wav").write_bytes(tagged)
    assert probe_audio("12:30 #1 100%.wav").seconds == 1.0


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_samples_in_memory_equal_the_same_in_a_file(tmp_path, rate):
    samples = noise(1, 30_000)
    path = encode_audio(tmp_path / "a.wav", samples, rate, "pcm_f32le")
    blocks = list(audio_blocks(samples[0].astype(np.float64), rate, 16_000, block_seconds=0.48))
    assert len(blocks[0]) == 7680
    np.testing.assert_array_equal(np.concatenate(blocks), read(path))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((3, 100)), "shape"),
        (np.zeros((1, 2, 100)), "shape"),
        (np.zeros(0), "shape"),
        (np.zeros(100, np.int16), "int16"),
        (np.array([0.0, np.nan]), "finite"),
        (np.array([[0.0, 0.0], [0.0, np.inf]]), "finite"),
    ],
)
def test_bad_samples_in_memory_are_refused(audio, message):
    with pytest.raises(ValueError, match=message):
        list(audio_blocks(audio, 16_000, 16_000))


@pytest.mark.parametrize("folder", ["audio", "video"])
def test_real_sounds(folder):
    for path in realdata(folder):
        info = probe_audio(path)
        assert info.seconds > 2
        assert not info.silent
        samples = read(path)
        assert abs(len(samples) - info.seconds * 16_000) <= 1
        assert 1e-3 < samples.std() < 0.5, path.name
