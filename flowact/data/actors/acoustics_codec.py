"""Sound after a trip through a lossy codec, in time with the sound before it."""

import io
from typing import Literal, get_args

import av
import numpy as np
from av import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from flowact.data.actors.phones import SAMPLE_RATE

Samples = NDArray[np.floating]
Codec = Literal["libopus", "libmp3lame", "aac"]
CODECS: tuple[Codec, ...] = get_args(Codec)
OPTIONS = {"libopus": {"compression_level": "3", "application": "voip"}}
"""Less effort in searching: it costs most of the time and changes nothing that matters here."""


def through_codec(samples: Samples, codec: Codec, bit_rate: int) -> Samples:
    """``samples`` [N] encoded at ``bit_rate`` bits a second and decoded, [N].

    Matroska tells how long every codec's priming is, and decoding takes it off: there is no delay.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(
            codec, rate=SAMPLE_RATE, layout="mono", options=OPTIONS.get(codec, {})
        )
        stream.bit_rate = bit_rate
        pcm = (samples.clip(-1, 1) * np.iinfo(np.int16).max).round().astype(np.int16)
        whole = AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        whole.sample_rate = SAMPLE_RATE
        for frame in (whole, None):
            container.mux(stream.encode(frame))
    file.seek(0)
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(file, "r") as container:
        decoded = [
            block.to_ndarray()[0]
            for frame in (*container.decode(audio=0), None)
            for block in resampler.resample(frame)
        ]
    heard = np.concatenate(decoded)[: len(samples)]
    return np.pad(heard, (0, len(samples) - len(heard)))
