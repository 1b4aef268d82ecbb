"""The benchmark runs and tells all it promises; what it measures is no business of a test."""

import numpy as np
import pytest
import torch
from tiny import tiny_config

from flowact.evaluation.benchmark import benchmark, compare_tick, write_babble
from flowact.geometry import Geometry
from flowact.media.audio import probe_audio, stream_audio
from flowact.settings import BenchmarkConfig, Precision


@pytest.fixture(scope="module")
def report():
    config = BenchmarkConfig(
        model=tiny_config(), output="unused.json", seconds=2.0, ticks=1, precision=Precision.fp32
    )
    return benchmark(config)


def test_the_report_has_the_keys_of_a_run(report):
    assert report["frames"] == 50
    assert {"fps", "ttff_s", "tick_s", "stage_s", "deadline_misses", "peak_rss_mb"} <= set(report)
    assert set(report["stage_s"]) == {"audio", "denoise", "decode", "write"}
    assert all(seconds > 0 for seconds in report["stage_s"].values())


def test_the_machine_is_named(report):
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["torch"] == torch.__version__


def test_weights_are_called_untrained(report):
    assert "untrained" in report["weights"]


def test_a_tick_is_compared_on_equal_terms():
    told = compare_tick(tiny_config(), torch.float32, pairs=1)
    assert told["times_as_fast"] == pytest.approx(told["diffusers_s"] / told["flowact_s"])


def test_the_sound_is_what_was_asked_for(tmp_path):
    write_babble(tmp_path / "sound.wav", 2.5, Geometry())
    assert probe_audio(tmp_path / "sound.wav").seconds == 2.5
    samples = np.concatenate(list(stream_audio(tmp_path / "sound.wav", 16_000)))
    assert 0.01 < np.abs(samples).mean() < 0.2
