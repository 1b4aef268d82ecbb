"""Real media files for the tests of this folder, made as they run."""

import av
import numpy as np

LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")


def encode_audio(path, samples, rate, codec, start=0.0, frames=0):
    """A file of ``samples``, float [channels, n] in [-1, 1], made by FFmpeg's own encoders.

    The sound starts at ``start`` seconds, beside ``frames`` black frames at 25 fps.
    """
    layout = LAYOUTS[len(samples) - 1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if frames:
            picture = container.add_stream("libx264", rate=25, width=64, height=64)
            for _ in range(frames):
                container.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(picture.encode(None))
        for begin in range(0, samples.shape[1], 1024):
            part = samples[:, begin : begin + 1024].T.reshape(1, -1).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate, begin + round(start * rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def click_track(seconds, times, rate):
    """Mono [1, n]: silence with 2 ms bursts of a tone that start at ``times``."""
    samples = np.zeros(round(seconds * rate), np.float32)
    burst = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(round(0.002 * rate)) / rate)
    for time in times:
        begin = round(time * rate)
        part = samples[begin : begin + len(burst)]
        part += burst[: len(part)]
    return samples[None]


def click_times(samples, rate):
    """Seconds at which bursts start: the loud samples that follow 15 ms without any."""
    loud = np.flatnonzero(np.abs(samples) > 0.25) / rate
    return loud[np.diff(loud, prepend=-1.0) > 0.015]
