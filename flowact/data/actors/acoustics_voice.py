"""Another speaker from the same speech: pitch and formants moved, each by itself, in place.

A phase vocoder with the phase rule of Laroche & Dolson (1999): frames are read at one rate and laid
down at another, which stretches the sound; played back at its old length it has another pitch. The
spectral envelope, by each frame's linear prediction, is bent on the way, so that formants end where
they are wanted and not where the pitch took them.
"""

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.phones import SAMPLE_RATE

Samples = NDArray[np.floating]
Spectra = NDArray[np.complexfloating]  # [frames, WINDOW // 2 + 1]

HOP = 160  # samples
WINDOW = 4 * HOP  # 40 ms, two periods of a very low voice
POLES = 18
"""Of the envelope: a pair for each formant below 8 kHz."""
MOST_GAIN = np.log(10.0)  # 20 dB, by which noise between formants may be raised
SEAM_HZ = 500.0  # over which a spectrum goes over into another, so that it does not ring
FAINT = 1e-5
"""Share of white noise in what linear prediction sees, so that it has one answer in silence too."""


def shift_voice(samples: Samples, pitch: float, formants: float) -> Samples:
    """``samples`` [N] with both scaled by their factors; what sounded at a time still does.

    A lower pitch leaves no sound at the top of the spectrum, where hisses are, which have none:
    there the spectrum is kept as it was.
    """
    padded = np.pad(samples, (WINDOW, 2 * WINDOW - len(samples) % HOP))  # whole hops
    moved = np.fft.rfft(_stretched(padded, pitch, formants))
    heard = np.fft.rfft(padded)
    known = min(len(moved), len(heard))
    hertz_left = np.arange(known, 0, -1) * (SAMPLE_RATE / len(padded))
    share = np.sin(np.pi / 2 * np.minimum(hertz_left / SEAM_HZ, 1)) ** 2
    heard[:known] += share * (moved[:known] - heard[:known])
    return np.fft.irfft(heard)[WINDOW : WINDOW + len(samples)]


def _stretched(samples: Samples, pitch: float, formants: float) -> Samples:
    """``samples`` [N], whole hops, ``pitch`` times as long with the pitch that they had.

    Formants are where playing them back ``pitch`` times as fast brings them to their place. They
    are fainter by ``pitch``: their spectrum has as many more bins.
    """
    count = round(len(samples) * pitch / HOP) * HOP
    middles = np.arange(0, count - WINDOW, HOP) + WINDOW / 2
    front = HOP + WINDOW // 2
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (front, WINDOW)), WINDOW)
    at = np.round(middles * (len(samples) / count) - WINDOW / 2).astype(int) + front
    hann = np.hanning(WINDOW + 1)[:-1]
    now = np.fft.rfft(frames[at] * hann)
    before = np.fft.rfft(frames[at - HOP] * hann)
    sizes = np.abs(now)
    spectra = sizes * _bent(sizes, pitch / formants) * _phases(now, before)
    laid = _overlap_added(np.fft.irfft(spectra, WINDOW) * hann, count)
    return laid * (len(samples) / count / np.sum(hann[::HOP] ** 2))


def _phases(now: Spectra, before: Spectra) -> Spectra:
    """Phasors that turn from frame to frame as the sound does in the ``HOP`` before each."""
    turns = _phasors(now)
    turns[1:] *= _phasors(before[1:]).conj()
    return np.cumprod(turns, axis=0, dtype=np.complex128)


def _phasors(spectra: Spectra) -> Spectra:
    sizes = np.abs(spectra)
    return np.where(sizes > 0, spectra / np.maximum(sizes, 1e-300), 1.0)


def _bent(magnitudes: Samples, factor: float) -> Samples:
    """Gains that give each bin of ``magnitudes`` the envelope at ``factor`` times its frequency."""
    envelope = _envelope(magnitudes)
    top = envelope.shape[1] - 1
    wanted = np.minimum(np.arange(top + 1) * factor, top)
    low = np.minimum(wanted.astype(int), top - 1)
    share = wanted - low
    bent = (1 - share) * envelope[:, low] + share * envelope[:, low + 1]
    return np.exp(np.clip(bent - envelope, -MOST_GAIN, MOST_GAIN))


def _envelope(magnitudes: Samples) -> Samples:
    """The logarithm of each frame's resonances, without the slope of the whole, which may stay."""
    slope = np.abs(np.fft.rfft([1.0, -0.95], WINDOW))
    correlation = np.fft.irfft((magnitudes * slope) ** 2)[:, : POLES + 1]
    correlation[:, 0] = correlation[:, 0] * (1 + FAINT) + FAINT**2
    lags = np.abs(np.subtract.outer(np.arange(POLES), np.arange(POLES)))
    weights = np.linalg.solve(correlation[:, lags], correlation[:, 1:, None])[..., 0]
    whitening = np.concatenate([np.ones((len(weights), 1)), -weights], axis=1)
    return -np.log(np.abs(np.fft.rfft(whitening, WINDOW)))


def _overlap_added(frames: Samples, count: int) -> Samples:
    """[count] samples: frames [F, WINDOW] laid down ``HOP`` apart."""
    parts = WINDOW // HOP
    sums = np.zeros((len(frames) + parts - 1, HOP))
    for part in range(parts):
        sums[part : part + len(frames)] += frames[:, part * HOP : (part + 1) * HOP]
    return np.resize(np.append(sums.ravel(), np.zeros(count)), count)
