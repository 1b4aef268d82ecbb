"""What a tick is said to cost is what it costs."""

import dataclasses
import json

import pytest
import torch
from tiny import tiny_config
from torch.utils.flop_counter import FlopCounterMode

from flowact.evaluation.against_diffusers import steady_tick
from flowact.evaluation.budget import DECODER, Gpu, Work, roofline, tick_work
from flowact.evaluation.budget_sharing import sharing
from flowact.evaluation.plan import markdown, memory, plan
from flowact.models.components import build_autoencoder
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.models.vae import wrap_autoencoder
from flowact.models.vae_thin import ThinDecoder, ThinSizes
from flowact.models.vae_thin_weights import save_thin_decoder
from flowact.runs import BenchmarkConfig, StreamOverrides

TEXT = 7


def flops_of(function):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("pattern", [("full", "temporal"), ("spatial", "temporal"), ("full",)])
def test_the_count_is_that_of_torch_on_real_layers(pattern):
    model = tiny_config()
    transformer = dataclasses.replace(model.transformer, layer_pattern=pattern)
    model = dataclasses.replace(model, transformer=transformer)
    real = FlowActTransformer3DModel(**dataclasses.asdict(model.transformer)).eval()
    torch.nn.Module.to(real, torch.bfloat16)
    with torch.no_grad():
        tick = steady_tick(real, model, TEXT)
    counted = {kind: w for kind, w in tick_work(model, TEXT).items() if kind != DECODER}
    assert sum(w.flops for w in counted.values()) == flops_of(tick)
    assert set(counted) == {
        *(f"{kind} layers" for kind in pattern),
        *("audio adapter", "modulation", "before and after the layers"),
    }


def test_weights_are_read_once_a_call_and_calls_are_counted():
    model = tiny_config()
    once = tick_work(model, TEXT)
    model.stream = dataclasses.replace(model.stream, micro_steps=4)
    four = tick_work(model, TEXT)
    for kind in once.keys() - {DECODER}:
        assert four[kind].weights == 4 * once[kind].weights, kind
        assert 3 * once[kind].flops < four[kind].flops <= 4 * once[kind].flops, kind
    assert four[DECODER] == once[DECODER]


def test_a_thin_decoder_is_counted_in_place_of_the_autoencoders(tmp_path):
    sizes = ThinSizes(4, (8, 6, 4), (2, 2), patch=2, blocks=1)
    model, path = tiny_config(), tmp_path / "thin.safetensors"
    save_thin_decoder(ThinDecoder(sizes), path)
    config = BenchmarkConfig(model=model, output="plan.json", plan=True, text_tokens=TEXT)
    own, thin = plan(config)["work"], plan(dataclasses.replace(config, decoder=str(path)))["work"]
    size = (model.geometry.chunk_latents, model.height // 8, model.width // 8)
    decoder = ThinDecoder(sizes).bfloat16()
    chunk = torch.zeros(1, 4, *size, dtype=torch.bfloat16)
    with torch.no_grad():
        _, cache = decoder(chunk)
    counted = sum(thin[DECODER][kind] for kind in ("linear", "convolution"))
    assert counted == flops_of(lambda: decoder(chunk, cache))
    without = [{k: w["linear"] for k, w in work.items() if k != DECODER} for work in (own, thin)]
    assert without[0] == without[1]


def test_the_decoder_is_counted_in_its_steady_state():
    model = tiny_config()
    module = build_autoencoder(model.autoencoder).eval()
    torch.nn.Module.to(module, torch.bfloat16)  # in float32 a kernel runs that torch cannot count
    autoencoder = wrap_autoencoder(module)
    size = (model.height // 8, model.width // 8)
    chunk = torch.zeros(1, model.transformer.out_channels, model.geometry.chunk_latents, *size)
    with torch.no_grad():
        _, cache = autoencoder.decode(chunk)
    work = tick_work(model, TEXT)[DECODER]
    # Torch does not count the CPU's fused attention, of which there is little.
    assert work.convolution == flops_of(lambda: autoencoder.decode(chunk, cache))
    assert 0 < work.attention < 0.01 * work.convolution


def test_a_kind_takes_as_long_as_what_it_has_most_of():
    gpu = Gpu({"bf16": 100.0, "int8": 200.0}, bandwidth=10.0, link=1.0)
    busy = Work(linear=400, attention=100, weights=20, activations=10)
    assert roofline({"a": busy}, gpu, "bf16") == 5.0
    assert roofline({"a": busy}, gpu, "int8") == 3.0  # attention stays in bfloat16
    idle = Work(linear=1, weights=20, activations=10)
    assert roofline({"a": idle}, gpu, "bf16") == 3.0
    assert roofline({"a": idle}, gpu, "int8") == 2.0
    assert roofline({"a": busy, "b": idle}, gpu, "bf16") == 8.0


def test_a_plan_is_told():
    stream = StreamOverrides(guidance=2.0)
    config = BenchmarkConfig(
        model=tiny_config(), output="unused.json", plan=True, text_tokens=TEXT, stream=stream
    )
    told = json.loads(json.dumps(plan(config), allow_nan=False))
    assert (told["tokens_per_latent"], told["tokens_of_first_call"]) == (24, 240)
    assert told["calls_per_chunk"] == 2
    assert sum(w["share"] for w in told["work"].values()) == pytest.approx(1)
    assert set(told["gpus"]) >= {"A100 bf16", "A100 int8", "H200 fp8"}
    assert "A100 fp8" not in told["gpus"]  # it has no such arithmetic
    text = markdown(told)
    assert text.startswith(
        "tiny: 24 tokens a latent, 240 in a tick's first call, 7 of text, 2 calls a chunk"
    )
    assert "| temporal layers |" in text


def test_what_processes_send_is_counted():
    """Keys and values of half of ten latents, in two layers, and their output; 24 tokens of 48."""
    model = tiny_config()
    told = {(row["processes"], row["parallel"]): row for row in sharing(model, TEXT, False, (2, 3))}
    assert set(told) == {(2, "frames"), (2, "tokens"), (3, "frames")}  # two heads
    frames = told[2, "frames"]
    tokens, sizes = 5 * 24, 2 * 2 * 48 + 4
    assert frames["received"] == 2 * tokens * sizes
    # Each rank gives away half of its tokens' queries, keys, values and answers.
    assert told[2, "tokens"]["received"] == 2 * (10 * 24 // 4 * 2 * 4 * 48 + 9 * 24 // 2 * 4)
    assert told[3, "frames"]["tick_s"]["H200 bf16"] < frames["tick_s"]["H200 bf16"]
    assert len(plan_of(processes=(2,)).splitlines()) == len(plan_of().splitlines()) + 5


def plan_of(**changes):
    config = BenchmarkConfig(model=tiny_config(), output="unused.json", text_tokens=TEXT, **changes)
    return markdown(plan(config))


def test_memory_is_that_of_the_weights_and_of_a_stream():
    model = tiny_config()
    real = FlowActTransformer3DModel(**dataclasses.asdict(model.transformer))
    kept = memory(model, TEXT)
    weights = 2 * sum(p.numel() for p in real.parameters())
    assert kept["layers"] + kept["other"] == weights
    assert kept["visiting"] <= kept["layers"]
    assert 0 < kept["modulation"] < kept["layers"]
    latent = 24 * 48 * 2 * 2 * 2  # keys and values of two layers
    assert kept["stream"] > 5 * latent  # memory's, at least
    more = dataclasses.replace(model, height=2 * model.height)
    assert memory(more, TEXT)["decoding"] > 1.9 * kept["decoding"]
