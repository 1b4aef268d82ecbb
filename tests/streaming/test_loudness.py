"""The causal loudness against BS.1770 computed sample by sample."""

import math

import pytest
import torch

from flowact.geometry import Geometry
from flowact.streaming.loudness import (
    DESIGN_RATE,
    HIGH_PASS,
    SHELF,
    LoudnessMeter,
    LoudnessState,
)

RATE, HOP = Geometry().sample_rate, Geometry().frame_samples
METER = LoudnessMeter(RATE, HOP)


def sines(rate: int, seconds: float) -> torch.Tensor:
    """A chord whose level steps every second: loud, silent, soft, quiet, loud."""
    t = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    chord = sum(torch.sin(2 * math.pi * hz * t + hz) for hz in (60, 230, 1100, 3500, 6700)) / 5
    levels = torch.tensor([0.5, 0.0, 0.05, 1e-3, 0.8], dtype=torch.float64)
    return chord * levels[(t.long() % len(levels))]


def measure(wave: torch.Tensor, hops_at_once: int = 10) -> LoudnessState:
    wave = torch.nn.functional.pad(wave[None].float(), (METER.history, 0))
    state = METER.start(1)
    step = hops_at_once * HOP
    for start in range(0, wave.shape[-1] - METER.history - step + 1, step):
        state = METER.update(state, wave[:, start : start + METER.history + step])
    return state


def k_weighted(wave: list[float]) -> torch.Tensor:
    """The standard's biquads sample by sample, at the rate of its table."""
    for (b0, b1, b2), (_, a1, a2) in (SHELF, HIGH_PASS):
        filtered, z1, z2 = [], 0.0, 0.0
        for x in wave:
            y = b0 * x + z1
            z1, z2 = b1 * x - a1 * y + z2, b2 * x - a2 * y
            filtered.append(y)
        wave = filtered
    return torch.tensor(wave, dtype=torch.float64)


def gated_loudness(weighted: torch.Tensor, hop: int) -> float:
    """BS.1770's two gates over blocks of 400 ms, one a hop."""
    powers = weighted.unfold(0, DESIGN_RATE * 4 // 10, hop).square().mean(-1)
    gated = powers[10 * powers.log10() - 0.691 > -70]
    return 10 * math.log10(gated[gated > gated.mean() / 10].mean()) - 0.691


def test_full_scale_sine_is_minus_three():
    t = torch.arange(60 * RATE, dtype=torch.float64) / RATE
    loudness = METER.integrated(measure(torch.sin(2 * math.pi * 997 * t))).item()
    # BS.1770's own calibration, -3.01; nine of 1500 blocks reach back into silence: 0.013 LU.
    assert loudness == pytest.approx(-3.01, abs=0.02)


def test_equals_the_standard_at_its_own_rate():
    loudness = METER.integrated(measure(sines(RATE, 10.0))).item()
    weighted = k_weighted(sines(DESIGN_RATE, 10.0).tolist())
    hop = DESIGN_RATE * HOP // RATE
    same_blocks = gated_loudness(torch.nn.functional.pad(weighted, (9 * hop, 0)), hop)
    # Measured 1e-4 LU: float32 samples, and a histogram bin at the relative gate.
    assert loudness == pytest.approx(same_blocks, abs=1e-3)
    # Blocks every 100 ms fall otherwise on steps between levels; without steps it is 0.1 LU.
    assert loudness == pytest.approx(gated_loudness(weighted, DESIGN_RATE // 10), abs=0.5)


def test_updates_may_be_of_any_number_of_hops():
    wave = sines(RATE, 6.0)
    whole, single = measure(wave, hops_at_once=150), measure(wave, hops_at_once=1)
    assert whole.counts.sum() == single.counts.sum() > 0
    # The high-pass has forgotten the start of an update's samples to 1e-7 of their amplitude.
    assert METER.integrated(whole).item() == pytest.approx(
        METER.integrated(single).item(), abs=1e-4
    )


@pytest.mark.parametrize("level", [1.0, 0.05])
def test_the_gain_reaches_the_target(level):
    wave = level * sines(RATE, 10.0)
    gain = METER.gain(measure(wave))
    # 0.1 LU: a bin of the histogram moves over the relative gate.
    assert METER.integrated(measure(wave * gain)).item() == pytest.approx(-23.0, abs=0.1)


def test_the_gain_is_at_most_twenty_decibels_and_silence_has_none():
    noise = torch.randn(5 * RATE, generator=torch.Generator().manual_seed(0))
    assert METER.gain(measure(1e-3 * noise)).item() == pytest.approx(10.0)
    assert METER.gain(measure(noise)).item() == pytest.approx(0.1)
    assert METER.gain(measure(1e4 * noise)).item() == pytest.approx(0.1), "beyond the last bin"
    assert METER.gain(measure(0 * noise)).item() == 1.0
    assert METER.gain(measure(1e-5 * noise)).item() == 1.0, "below the absolute gate"


def test_no_gain_until_four_tenths_of_a_second_passed_the_gate():
    tone = 0.01 * torch.sin(torch.arange(RATE) * 0.4)
    signal = torch.cat([torch.zeros(RATE), tone])
    onset = RATE // HOP
    assert METER.gain(measure(signal[: (onset + 9) * HOP], hops_at_once=1)).item() == 1.0
    assert METER.gain(measure(signal[: (onset + 10) * HOP], hops_at_once=1)).item() > 1.0


def test_the_state_does_not_grow():
    wave = sines(RATE, 10.0)
    assert measure(wave).counts.shape == measure(wave[:RATE]).counts.shape
