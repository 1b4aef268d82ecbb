"""A compiled stream is the stream that it was; only calls of a steady stream are compiled."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_config
from torch._dynamo.utils import counters

from flowact.acceleration.compilation import HOT, Compiled, compile_pipeline
from flowact.acceleration.forms import Forms, form_of
from flowact.acceleration.graphs import capture_pipeline
from flowact.pipeline import FlowActPipeline

SOUND = torch.randn(11 * 12 * 640, generator=torch.Generator().manual_seed(0)) / 10


def streamed(pipeline):
    """Latents of a stream's chunks, and its frames."""
    session = pipeline.session("flowact/assets/person.png", "She waves.")
    session.push(SOUND)
    session.end()
    latents, frames = [], []
    while not session.done:
        tick = session.tick(session.conditions())
        latents.append(tick.estimates.flatten())
        if tick.finished is not None:
            frames.append(session.decode().float().flatten())
    return torch.cat(latents), torch.cat(frames)


def test_it_is_the_stream_that_it_was(monkeypatch):
    """Traced whole; that it becomes code is the next test's, since all of it takes a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    pipeline = FlowActPipeline.untrained(tiny_config())
    latents, frames = streamed(pipeline)
    counters.clear()
    compile_pipeline(pipeline)
    fast_latents, fast_frames = streamed(pipeline)
    assert counters["stats"]["unique_graphs"] == 3  # a tick's two kinds of layer, and the decoder
    assert not counters["graph_break"]
    # Fused sums in another order, in float32, over a dozen ticks; then half a grey level.
    torch.testing.assert_close(fast_latents, latents, rtol=1e-4, atol=1e-4)
    assert (fast_frames - frames).abs().max() <= 1


def test_a_layer_is_compiled_to_code_that_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = tiny_config()
    alone = replace(model.transformer, num_layers=1, layer_pattern=("temporal",))
    pipeline = FlowActPipeline.untrained(replace(model, transformer=alone))
    (block,) = pipeline.transformer.blocks
    block.run_video = torch.compile(block.run_video, fullgraph=True, dynamic=False)
    fast = pipeline.transformer.encode_context(torch.ones(1, 4, 1, 4, 6), torch.tensor([3]))
    del block.run_video
    slow = pipeline.transformer.encode_context(torch.ones(1, 4, 1, 4, 6), torch.tensor([3]))
    torch.testing.assert_close(fast.layers[0], slow.layers[0], rtol=1e-5, atol=1e-5)  # reordered
    assert any(tmp_path.rglob("*.so"))


def test_only_what_comes_often_is_hot():
    forms = Forms(hot=3)
    assert [forms.are_hot(form) for form in "ababab"] == [False] * 4 + [True] * 2


def test_no_more_are_made_than_may_be():
    forms = Forms(hot=1, most=2)
    assert [forms.are_hot(form) for form in "abcab"] == [True, True, False, True, True]


def test_calls_of_one_form_differ_in_values_alone():
    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    assert form_of([one, (1, "a")])[1] == form_of([other, (1, "a")])[1]
    assert hash(form_of([one])[1]) == hash(form_of([other])[1])
    for different in ([one[:1], (1, "a")], [one.half(), (1, "a")], [one, (2, "a")], [one]):
        assert form_of([one, (1, "a")])[1] != form_of(different)[1]


def test_functions_run_as_they_are_until_their_calls_are_hot(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda x: ("compiled", x))
    compiled = Compiled()
    inner = compiled.compiled(lambda x: ("plain", x))
    outer = compiled.watch(lambda x: inner(x)[0])
    said = [outer(torch.zeros(2)) for _ in range(HOT + 1)]
    assert said == ["plain"] * (HOT - 1) + ["compiled"] * 2
    assert outer(torch.zeros(3)) == "plain"


def test_graphs_are_refused_where_there_are_none():
    model = SimpleNamespace(device=torch.device("cpu"), is_shared=False)
    with pytest.raises(ValueError, match="graphs=true needs a CUDA device"):
        capture_pipeline(SimpleNamespace(transformer=model))
