"""The benchmark runs and tells all it promises; what it measures is no business of a test."""

import time
from functools import wraps

import diffusers
import numpy as np
import pytest
import torch
from tiny import tiny_config

from flowact.evaluation.against_diffusers import compare_step, compare_tick
from flowact.evaluation.benchmark import benchmark, endurance, live, reactions, write_babble
from flowact.geometry import Geometry
from flowact.media.audio import probe_audio, stream_audio
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.runs import BenchmarkConfig, StreamOverrides
from flowact.settings import Precision


@pytest.fixture(scope="module")
def report():
    config = BenchmarkConfig(
        model=tiny_config(), output="unused.json", seconds=2.0, ticks=1, precision=Precision.fp32
    )
    return benchmark(config)


def test_the_report_has_the_keys_of_a_run(report):
    assert report["frames"] == 50
    assert {"fps", "ttff_s", "tick_s", "stage_s", "deadline_misses", "peak_rss_mb"} <= set(report)
    assert set(report["stage_s"]) == {"condition", "denoise", "decode", "write"}
    assert all(seconds > 0 for seconds in report["stage_s"].values())


@pytest.mark.parametrize("lag", [0, 2])
def test_nothing_is_shown_before_what_it_waits_for_is_spoken(lag):
    """Audio of a chunk is needed when it is ``lag`` ticks old, and it leaves after three."""
    seconds, geometry = 2.4, tiny_config().geometry
    config = BenchmarkConfig(
        model=tiny_config(),
        output="unused.json",
        seconds=seconds,
        live=True,
        ticks=0,
        precision=Precision.fp32,
        stream=StreamOverrides(audio_lag=lag),
    )
    told = benchmark(config)["reaction_s"]
    needed = geometry.audio_end(geometry.depth - 1 - lag) / geometry.sample_rate
    # Once the sound has ended none waits: of five chunks the last, or under no lag the last three.
    assert told["p50" if lag else "max"] >= needed
    begun, spoken = time.perf_counter() - 100, []
    for frame in live([torch.zeros(900), torch.zeros(380)], geometry, begun):
        spoken.append(len(frame))
    assert spoken == [640, 260, 380]
    emitted = [begun + 1.7, begun + 2.2]
    assert reactions(emitted, geometry, begun) == pytest.approx([1.7, 1.72])


def test_the_machine_is_named(report):
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["torch"] == torch.__version__


def test_weights_are_called_untrained(report):
    assert "untrained" in report["weights"]


@pytest.mark.parametrize("what", ["tick", "step"])
def test_models_are_compared_on_equal_terms(monkeypatch, what):
    """Both models have the preset's width and depth, and diffusers' gets as many tokens."""
    made, seen = [], []
    for kind in (diffusers.HunyuanVideo15Transformer3DModel, FlowActTransformer3DModel):
        init = kind.__init__

        def recording(self, *args, _init=init, **kwargs):
            _init(self, *args, **kwargs)
            made.append(self.config)

        monkeypatch.setattr(kind, "__init__", wraps(init)(recording))
    forward = diffusers.HunyuanVideo15Transformer3DModel.forward

    def watched(self, x, *args, **kwargs):
        seen.append(x.shape[2])
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(diffusers.HunyuanVideo15Transformer3DModel, "forward", watched)
    model = tiny_config()
    device = torch.device("cpu")
    if what == "tick":
        told = compare_tick(model, torch.float32, device, pairs=1)
    else:
        told = compare_step(model, device, pairs=1)
    base, ours = made
    for key in ("num_layers", "num_attention_heads", "attention_head_dim", "patch_size"):
        assert base[key] == ours[key] == getattr(model.transformer, key)
    assert set(seen) == {model.geometry.buffer_latents}
    assert all(seconds > 0 for seconds in told.values())


def test_endurance_compares_minutes():
    """Memory after the first minute, and the last minute's tick against the second's."""
    geometry = Geometry()
    minute = round(60 / geometry.chunk_seconds)
    ticks = [9.0] * minute + [2.0] * minute + [5.0] * minute + [3.0] * minute
    resident = [100.0] * minute + [110.0] + [115.0] * minute
    told = endurance(ticks, resident, geometry)
    assert told == {"rss_growth_mb": 5.0, "tick_last_minute_over_second": 1.5}


def test_the_sound_is_what_was_asked_for(tmp_path):
    write_babble(tmp_path / "sound.wav", 2.5, Geometry())
    assert probe_audio(tmp_path / "sound.wav").seconds == 2.5
    samples = np.concatenate(list(stream_audio(tmp_path / "sound.wav", 16_000)))
    assert 0.01 < np.abs(samples).mean() < 0.2
