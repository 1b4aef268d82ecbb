"""On a GPU a stream is what it is on the CPU; and, there, what it is under each switch."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import tiny_config

from flowact.acceleration.compilation import compile_pipeline
from flowact.acceleration.graphs import Captured, capture_pipeline
from flowact.acceleration.offload import offload_pipeline
from flowact.pipeline import FlowActPipeline
from flowact.settings import Quantize
from flowact.streaming.engine import Engine
from flowact.streaming.prompts import Prompt, PromptSchedule

TICKS = 14  # memory is full after seven, and calls are then hot
# Other orders of summation, in float32 without TF32, over fourteen ticks.
REORDERED = 1e-3


@pytest.fixture(autouse=True)
def exact():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # that of matrix products is off by default
    yield
    torch.backends.cudnn.allow_tf32 = before


def make(**transformer):
    model = tiny_config()
    model = replace(model, transformer=replace(model.transformer, **transformer))
    return FlowActPipeline.untrained(model)


def streamed(pipeline, stream=None):
    """Latents of a stream's ticks under three prompts in turn, on the CPU."""
    geometry = pipeline.config.geometry
    prompts = (Prompt(0.0, "She waves."), Prompt(2.0, "She nods."), Prompt(4.5, "She is still."))
    schedule = PromptSchedule(prompts, geometry)
    session = pipeline.session("flowact/assets/person.png", schedule, stream=stream)
    generator = torch.Generator().manual_seed(0)
    samples = (TICKS + 2) * geometry.chunk_frames * geometry.frame_samples
    session.push(torch.randn(samples, generator=generator) / 10)
    ticks = [session.tick(session.conditions()) for _ in range(TICKS)]
    return torch.cat([tick.estimates.flatten().float().cpu() for tick in ticks])


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=REORDERED, atol=REORDERED)


@pytest.mark.parametrize("pattern", [("full",), ("spatial", "temporal")])
def test_a_stream_is_that_of_the_cpu(pattern):
    pipeline = make(layer_pattern=pattern)
    expected = streamed(pipeline)
    assert_same(streamed(pipeline.to("cuda")), expected)


def test_compiled():
    pipeline = make().to("cuda")
    expected = streamed(pipeline)
    compile_pipeline(pipeline)
    assert_same(streamed(pipeline), expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_replayed_as_graphs(compiled):
    """Also a second stream, and with what memory keeps of the first still in use."""
    pipeline = make().to("cuda")
    expected = streamed(pipeline)
    if compiled:
        compile_pipeline(pipeline)
    capture_pipeline(pipeline)
    assert_same(streamed(pipeline), expected)
    assert_same(streamed(pipeline), expected)
    captured = pipeline.transformer.encode_and_denoise
    assert isinstance(captured, Captured)
    assert captured._graphs


def test_graphs_of_guided_streams():
    pipeline = make().to("cuda")
    stream = replace(pipeline.config.stream, guidance=2.0, micro_steps=2)
    expected = streamed(pipeline, stream)
    capture_pipeline(pipeline)
    assert_same(streamed(pipeline, stream), expected)


def test_offloaded():
    pipeline = make(num_layers=3)
    expected = streamed(copy.deepcopy(pipeline).to("cuda"))
    offload_pipeline(pipeline, torch.device("cuda"))
    assert all(p.device.type == "cpu" for block in pipeline.transformer.blocks
               for p in block.parameters())  # fmt: skip
    assert_same(streamed(pipeline), expected)


def test_fixed_levels():
    pipeline = make()
    expected = streamed(copy.deepcopy(pipeline).to("cuda"))
    assert_same(streamed(pipeline.fix_levels().to("cuda")), expected)


def test_fp8_is_near():
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU does not multiply fp8")
    pytest.importorskip("torchao")
    pipeline = make(num_attention_heads=2, attention_head_dim=32, rope_axes_dim=(8, 12, 12))
    pipeline.cast(torch.bfloat16).to("cuda")
    expected = streamed(pipeline)
    found = streamed(pipeline.quantise(Quantize.fp8))
    assert 0 < (found - expected).norm() / expected.norm() < 0.1


def test_frames_come_through_the_engine_as_on_the_cpu():
    """Two threads, a device, and frames on the CPU in the end."""
    pipeline = make()
    sound = torch.randn(3 * 16_000, generator=torch.Generator().manual_seed(0)) / 10

    def frames():
        session = pipeline.session("flowact/assets/person.png", "She waves.")
        return torch.cat(list(Engine(session).run([sound])), dim=1).float()

    expected = frames()
    pipeline.to("cuda")
    assert (frames() - expected).abs().max() <= 2  # grey levels
