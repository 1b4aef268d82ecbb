"""The report of what faster arithmetic costs."""

from dataclasses import replace

import pytest
import torch

from flowact.evaluation import arithmetic
from flowact.evaluation.arithmetic import Sums, arithmetic_errors, compare_streams
from flowact.evaluation.benchmark import benchmark
from flowact.index import read_index
from flowact.runs import BenchmarkConfig
from flowact.settings import AttentionBackend, Precision, Quantize


@pytest.fixture
def config(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "weights")
    return BenchmarkConfig(
        model=read_index(tmp_path / "weights")[0],
        weights=str(tmp_path / "weights"),
        output="unused.json",
        device="cpu",
        precision=Precision.fp32,
        seconds=1.0,
        quantize=Quantize.int8,
        quantize_layers=("transformer_blocks.*.to_q",),
        errors=True,
    )


def test_a_report_of_layers_and_stream(config):
    report = benchmark(config)
    assert report["quantize"] == "int8"
    assert "cpu" in report["machine"]
    assert {kind: found["layers"] for kind, found in report["layers"].items()} == {
        "attn.to_q": 2,
        "audio.to_q": 2,
    }
    for found in report["layers"].values():
        assert 0.002 < found["error"] <= found["worst"] < 0.02
    assert report["stream"]["chunks"] == 3
    assert 0 < report["stream"]["all_chunks"] < 0.02
    assert 30 < report["stream"]["psnr_db"] < 80
    assert "stream_of_bfloat16_itself" not in report


def test_in_bfloat16_its_own_errors_are_told_beside(config):
    report = arithmetic_errors(replace(config, precision=Precision.bf16))
    assert 1e-4 < report["stream_of_bfloat16_itself"]["all_chunks"] < 0.05


def test_of_attention_alone(config):
    math = AttentionBackend.native_math
    report = arithmetic_errors(replace(config, attention=math, quantize=Quantize.none))
    assert report["layers"] == {}
    assert report["stream"]["all_chunks"] < 1e-5  # sums in another order


def test_a_stream_is_as_far_from_itself_as_nothing():
    streamed = arithmetic.Streamed([torch.ones(2), torch.ones(2)], [torch.ones(1, 3)])
    same = {"chunks": 2, "first_chunk": 0.0, "last_chunk": 0.0, "all_chunks": 0.0, "psnr_db": None}
    assert compare_streams(streamed, streamed) == same


def test_an_error_is_a_ratio_of_norms():
    sums = Sums()
    sums.add(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0]))
    assert sums.error == pytest.approx(0.8)
    assert Sums().error == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"quantize": Quantize.none}, "errors=true is of attention=... and quantize="),
        ({"plan": True}, "leave one out"),
    ],
)
def test_what_says_nothing_is_refused(config, words, named):
    with pytest.raises(ValueError, match=named):
        replace(config, **words)
