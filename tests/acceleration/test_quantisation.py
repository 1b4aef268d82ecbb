"""Layers in 8 bits: which, how far off, and what is refused."""

import copy
import logging
import sys
from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from torch import Tensor, nn

from flowact.acceleration.quantisation import choose, quantise, quantised_layers
from flowact.evaluation.arithmetic import by_kind, compare_streams, layer_errors, stream_example
from flowact.runs import BenchmarkConfig
from flowact.settings import QUANTIZED_LAYERS, Quantize

GPU = torch.cuda.is_available()

# Of the norm of what a layer gives, from below and above: one that is off by nothing is not
# quantised. Steps of int8 are 1/127 of a row's largest weight, about 2.5 of its deviations, and
# their rounding is evenly spread: 2.5 / 127 / 12**0.5, 0.6 %, and as much again, uncorrelated, of
# activations. fp8 has 3 bits after the point, so that a number is off by 1/16 at most, by 2.6 % in
# the mean. Twice that is allowed, since in a few dozen numbers the largest varies.
BOUNDS = {
    Quantize.int8_weights: (0.003, 0.012),
    Quantize.int8: (0.004, 0.017),
    Quantize.fp8_weights: (0.013, 0.052),
    Quantize.fp8: (0.018, 0.074),
}
# Of the latents of a stream; layers add to tokens that are not quantised. Seen: 0.6 % in int8, with
# activations or without, and 1.5 % in fp8. A stream that ran away would leave these in a few ticks.
STREAMED = {
    Quantize.int8_weights: 0.012,
    Quantize.int8: 0.012,
    Quantize.fp8_weights: 0.03,
    Quantize.fp8: 0.04,
}


@pytest.fixture
def pipeline(tiny_pipeline):
    return copy.deepcopy(tiny_pipeline)


def is_quantised(layer):
    return type(layer.weight.data) is not Tensor


def quantised_names(model):
    return {n for n, m in model.named_modules() if isinstance(m, nn.Linear) and is_quantised(m)}


@pytest.mark.parametrize("kind", BOUNDS, ids=lambda kind: kind.name)
def test_what_it_costs_in_layers_and_in_a_stream(pipeline, kind):
    config = BenchmarkConfig(model=tiny_config(), output="unused.json", seconds=2.4)
    if kind is Quantize.fp8:
        if not GPU:
            with pytest.raises(ValueError, match=r"8\.9 or more") as refused:
                pipeline.quantise(kind)
            pytest.skip(str(refused.value))
        pipeline.cast(torch.bfloat16).to("cuda")
    quantised = copy.deepcopy(pipeline).quantise(kind)
    with layer_errors(pipeline.transformer, quantised.transformer) as layers:
        expected = stream_example(pipeline, config)
    low, high = BOUNDS[kind]
    for name, found in by_kind(layers).items():
        assert low < found["error"] <= found["worst"] < high, name
    found = compare_streams(stream_example(quantised, config), expected)
    assert found["chunks"] == 5  # seven ticks
    assert 0 < found["all_chunks"] < STREAMED[kind]


class TestWhichLayers:
    def test_the_default_is_attention_feed_forward_and_audio(self, pipeline):
        model = pipeline.transformer
        left = {n for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        pipeline.quantise(Quantize.int8_weights)
        names = quantised_names(model)
        own = {name.removeprefix("transformer_blocks.0.") for name in names if ".0." in name}
        assert {"attn.to_q", "attn.add_v_proj", "ff.net.2", "ff_context.net.0.proj"} <= own
        assert "audio.to_k" in own
        assert {name.split(".")[0] for name in names} == {"transformer_blocks"}
        left -= names
        assert {"proj_out", "norm_out.linear", "transformer_blocks.1.norm1.linear"} <= left
        assert all(
            name.endswith(("norm1.linear", "norm1_context.linear"))
            for name in left
            if name.startswith("transformer_blocks.")
        )

    def test_patterns_choose(self, pipeline):
        pipeline.quantise(Quantize.int8_weights, ["transformer_blocks.1.attn.to_?", "proj_out"])
        attention = {f"transformer_blocks.1.attn.to_{x}" for x in "qkv"}
        assert quantised_names(pipeline.transformer) == {*attention, "proj_out"}

    def test_a_pattern_that_matches_nothing(self, pipeline):
        with pytest.raises(ValueError, match=r"quantize_layers: blocks\.\* matches no linear"):
            pipeline.quantise(Quantize.int8_weights, [*QUANTIZED_LAYERS, "blocks.*"])
        assert not quantised_names(pipeline.transformer)

    def test_a_model_without_audio_has_the_default_too(self, make_transformer):
        model = make_transformer(layer_pattern=("temporal",), audio_feature_dim=None)
        quantise(model, Quantize.int8_weights)
        assert len(quantised_names(model)) == 2 * 6

    def test_layers_that_do_not_fit_are_named(self, pipeline, caplog, monkeypatch):
        """Their sizes are those that torchao would leave out without a word."""
        monkeypatch.setattr(logging.getLogger("flowact"), "propagate", True)
        model = pipeline.transformer
        pipeline.quantise(Quantize.int8)
        misfits = {f"transformer_blocks.{i}.audio.to_{x}" for i in range(2) for x in "kv"}
        assert model.get_submodule(min(misfits)).in_features == 8
        assert "4 of 26 layers stay as they are under quantize=int8" in caplog.text
        assert all(name in caplog.text for name in misfits)
        assert (
            quantised_names(model) == set(quantised_layers(model, Quantize.fp8_weights)) - misfits
        )

    def test_none_that_fits(self, pipeline):
        with pytest.raises(ValueError, match="none of the 2 is; give quantize=int8_weights"):
            pipeline.quantise(Quantize.int8, ["*.audio.to_k"])


@pytest.mark.parametrize(
    ("capability", "kind"),
    [
        (None, "none"),
        ((7, 0), "none"),
        ((7, 5), "none"),
        ((8, 0), "int8"),
        ((8, 6), "int8"),
        ((8, 9), "fp8"),
        ((9, 0), "fp8"),
        ((10, 0), "fp8"),
        ((12, 0), "fp8"),
    ],
)
def test_auto_goes_by_the_gpu(capability, kind):
    chosen, reason = choose(capability)
    assert chosen.name == kind
    assert reason


def test_auto_says_what_it_is(pipeline, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("flowact"), "propagate", True)
    pipeline.quantise(Quantize.auto, device="cpu")
    assert "quantize=auto is none: no CPU" in caplog.text
    assert pipeline.transformer.quantised is Quantize.none


def test_fixed_levels_come_first_or_after(pipeline):
    """Tables of modulation are not touched, and are made of what was not."""
    first, after = copy.deepcopy(pipeline), pipeline
    first.fix_levels().quantise(Quantize.int8)
    after.quantise(Quantize.int8).fix_levels()
    config = BenchmarkConfig(model=tiny_config(), output="unused.json", seconds=1.0)
    expected = stream_example(first, config)
    assert compare_streams(stream_example(after, config), expected)["all_chunks"] == 0
    names = quantised_names(first.transformer)
    assert names == quantised_names(after.transformer)
    assert len(names) == 22


class TestRefusals:
    def test_saving_and_casting(self, pipeline, tmp_path):
        pipeline.quantise(Quantize.int8_weights)
        for refused in (
            lambda: pipeline.save_pretrained(tmp_path / "weights"),
            lambda: pipeline.cast(torch.bfloat16),
        ):
            with pytest.raises(ValueError, match="int8_weights; load it anew with quantize=none"):
                refused()
        assert not (tmp_path / "weights").exists()

    def test_twice(self, pipeline):
        pipeline.quantise(Quantize.int8_weights)
        with pytest.raises(ValueError, match="quantised already, to int8_weights"):
            pipeline.quantise(Quantize.fp8_weights)

    def test_fp8_where_it_cannot_be_computed(self, pipeline):
        with pytest.raises(ValueError, match="cpu is no GPU; give quantize=int8, or fp8_weights"):
            pipeline.quantise(Quantize.fp8, device="cpu")

    @pytest.mark.parametrize("capability", [(8, 0), (8, 6)])
    def test_fp8_on_a_gpu_before_it(self, pipeline, monkeypatch, capability):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        version = ".".join(map(str, capability))
        with pytest.raises(ValueError, match=f"cuda is {version}; give quantize=int8"):
            pipeline.quantise(Quantize.fp8, device="cuda")

    def test_fp8_in_float32(self, pipeline, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        with pytest.raises(ValueError, match="quantize=fp8 needs precision=bf16"):
            pipeline.quantise(Quantize.fp8, device="cuda")

    def test_torchao_is_missing(self, pipeline, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchao", None)
        with pytest.raises(ValueError, match=r"needs torchao: pip install 'flowact\[lowbit\]'"):
            pipeline.quantise(Quantize.int8)
        assert pipeline.transformer.quantised is Quantize.none


def test_no_option_of_the_process_changes(pipeline):
    """torchao's defaults would turn TF32 on, for all that runs."""
    before = torch.get_float32_matmul_precision()
    pipeline.quantise(Quantize.int8)
    assert torch.get_float32_matmul_precision() == before


def test_errors_of_bfloat16_are_its_own(pipeline):
    """What is quantised computes in the model's precision, and stays in it."""
    model = pipeline.cast(torch.bfloat16).quantise(Quantize.int8).transformer
    assert model.dtype is torch.bfloat16
    layer = model.transformer_blocks[0].attn.to_q
    assert layer(torch.ones(2, 48, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_the_settings_of_a_model_do_not_change(pipeline):
    config = copy.deepcopy(pipeline.config)
    pipeline.quantise(Quantize.int8)
    assert pipeline.config == config == replace(config)
