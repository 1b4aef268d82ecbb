"""The suite for GPUs runs here too, on a tiny model: its speeds are not asked."""

import torch
from tiny import tiny_config

from flowact.config import load_preset
from flowact.evaluation import gpu_suite as suite
from flowact.evaluation.budget import GPUS
from flowact.pipeline import FlowActPipeline
from flowact.runs import GpuSuiteConfig

SMALL = {"seconds": 1.0, "text_tokens": 5, "device": "cpu"}


def test_rows_are_measured_or_say_what_they_lack():
    names = ("as it is", "thin decoder", "graphs", "attention=flash", "quantize=fp8", "offload")
    told = suite.gpu_suite(
        GpuSuiteConfig(model=tiny_config(), output="unused.json", rows=names, **SMALL)
    )
    assert list(told["streams"]) == [row.name for row in suite.ROWS if row.name in names]
    measured = {name for name, row in told["streams"].items() if "left_out" not in row}
    assert measured == {"as it is", "thin decoder"}
    assert told["streams"]["as it is"]["tick_s"] > 0
    reasons = {name: row.get("left_out", "") for name, row in told["streams"].items()}
    assert "CUDA device" in reasons["graphs"]
    assert "fp8 needs a GPU" in reasons["quantize=fp8"]
    table = suite.markdown(told)
    assert all(f"| {name} |" in table for name in names)


def test_time_that_is_over_is_said():
    config = GpuSuiteConfig(model=tiny_config(), output="unused.json", minutes=1e-9, **SMALL)
    told = suite.gpu_suite(config)
    rows = [*told["streams"].values(), *told["steps"].values()]
    assert len(rows) == len(suite.ROWS) + 2
    assert all("minutes were over" in row["left_out"] for row in rows)


def test_a_training_step_is_timed_and_counted():
    config = GpuSuiteConfig(model=tiny_config(), output="unused.json", **SMALL)
    one = suite.step_row("demo", 1, config)
    two = suite.step_row("demo", 2, config)
    assert one["step_s"] > 0
    assert 0 < one["tflop"] < two["tflop"]


def test_shares_of_the_roofline_are_told_on_a_known_gpu(monkeypatch):
    monkeypatch.setattr(suite, "machine", lambda: {"gpu": "NVIDIA H200", "torch": "2"})
    config = GpuSuiteConfig(model=tiny_config(), output="unused.json", **SMALL)
    work = suite.tick_work(config.model, config.text_tokens)
    row = suite.stream_row(suite.ROWS[0], config.model, config, work, None)
    least = {kind: w for kind, w in work.items() if kind != "decoder"}
    best = suite.roofline(least, GPUS["H200"], "bf16")
    assert row["share_of_roofline"] == best / row["tick_s"]


def test_full_size_presets_are_built_of_parts_that_fit_them():
    for name in ("hunyuan15", "hunyuan15_decoupled", "small", "demo"):
        with torch.device("meta"):
            pipeline = FlowActPipeline.untrained(suite.measurable(load_preset(name)))
        assert pipeline.config.height == load_preset(name).height
