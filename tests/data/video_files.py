"""Real videos with flashes and clicks at known times, made as the tests run."""

from fractions import Fraction

import av
import numpy as np

SOUND_RATE = 48_000
TICKS = Fraction(1, 90_000)


def write_video(
    path,
    times,
    flashes=(),
    clicks=(),
    *,
    size=(64, 96),
    codec="libx264",
    seconds=None,
    sound_start=None,
    sound_seconds=None,
    turn=0,
    colours=None,
    options=None,
):
    """Frames shown at ``times``, white from a flash to the next frame that is 0.2 s later.

    Clicks are bursts of 2 ms in a track that starts at ``sound_start`` (None: with the picture).
    ``colours`` [(from, rgb), ...] paints shots instead of grey.
    """
    height, width = size
    start = times[0] if sound_start is None else sound_start
    end = times[-1] + 0.04
    with av.open(str(path), "w") as container:
        picture = container.add_stream(codec, rate=25, width=width, height=height, options=options)
        picture.pix_fmt, picture.time_base = "yuv420p", TICKS
        picture.codec_context.time_base = TICKS
        if turn:
            picture.set_display_rotation(turn)
        length = end - start if sound_seconds is None else sound_seconds
        sound = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if length else None
        packets = []
        for time in times:
            pixels = np.full((height, width, 3), 60, np.uint8)
            for begin, colour in colours or ():
                if time >= begin - 1e-6:
                    pixels[:] = colour
            if any(flash - 1e-6 <= time < flash + 0.2 for flash in flashes):
                pixels[:] = 255
            pixels[: height // 4, : width // 4] = (255, 0, 0)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time / TICKS), TICKS
            packets += picture.encode(frame)
        packets += picture.encode(None)
        if sound:
            packets += _encode_clicks(sound, start, length, clicks)
        # In order, as players and muxers want them.
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _encode_clicks(sound, start, length, clicks):
    """The packets of a sound track."""
    samples = np.zeros(round(length * SOUND_RATE), np.float32)
    burst = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(SOUND_RATE // 500) / SOUND_RATE)
    for click in clicks:
        begin = round((click - start) * SOUND_RATE)
        samples[begin : begin + len(burst)] = burst[: max(0, len(samples) - begin)]
    for begin in range(0, len(samples), 1024):
        block = samples[None, begin : begin + 1024]
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE, begin + round(start * SOUND_RATE)
        frame.time_base = Fraction(1, SOUND_RATE)
        yield from sound.encode(frame)
    yield from sound.encode(None)


def every(rate, seconds, start=0.0):
    """Times of frames at a rate."""
    return [start + i / rate for i in range(int(seconds * rate + 1e-6))]


def click_times(samples, rate):
    """Seconds at which bursts start: the loud samples that follow 100 ms without any."""
    loud = np.flatnonzero(np.abs(samples) > 0.2) / rate
    return loud[np.diff(loud, prepend=-1.0) > 0.1]


def flash_frames(frames):
    """Frames at which white begins, in the lower right, where no mark is."""
    white = frames[:, -8:, -8:].mean(axis=(1, 2, 3)) > 160
    return np.flatnonzero(white & ~np.concatenate([[False], white[:-1]]))
