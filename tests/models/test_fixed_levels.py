"""A stream whose levels are fixed is the stream that it was, with fewer weights."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import tiny_config

from flowact.models.embeddings import TIME_SCALE
from flowact.pipeline import FlowActPipeline
from flowact.settings import StreamSettings
from flowact.streaming.sampler import StreamSampler

SOUND = torch.randn(3 * 12 * 640, generator=torch.Generator().manual_seed(0)) / 10


def make_pipeline(guided=False, **transformer):
    model = tiny_config()
    transformer |= {"guidance_embeds": guided}
    model = replace(model, transformer=replace(model.transformer, **transformer))
    scales = {"text_scale": 2.0, "audio_scale": 3.0} if guided else {}
    model = replace(model, stream=StreamSettings(shift=2.0, **scales))
    pipeline = FlowActPipeline.untrained(model)
    with torch.no_grad():  # zeros at the start of training would hide the guidance
        for weight in pipeline.transformer.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return pipeline


def latents(pipeline, stream):
    """Of the chunks of a stream, and of its memory."""
    session = pipeline.session("flowact/assets/person.png", "She waves.", stream=stream)
    session.push(SOUND)
    session.end()
    found = []
    while not session.done:
        tick = session.tick(session.conditions())
        found += [tick.estimates, tick.state.memory.short_term.latent]
    return torch.cat([x.flatten() for x in found])


@pytest.mark.parametrize(
    ("made", "settings"),
    [
        ({}, {}),
        ({"guided": True}, {"refine_every": 2, "micro_steps": 2}),
        ({"layer_pattern": ("spatial", "temporal")}, {"guidance": 2.0}),
        ({"attention": "full"}, {}),
        ({"context_attention": "joint"}, {"micro_steps": 2}),
    ],
)
def test_a_stream_is_what_it_was(made, settings):
    pipeline = make_pipeline(**made)
    stream = replace(pipeline.config.stream, **settings)
    before = latents(pipeline, stream)
    layers = pipeline.transformer.transformer_blocks
    weights = sum(p.numel() for p in layers.parameters())
    pipeline.fix_levels(stream)
    assert sum(p.numel() for p in layers.parameters()) < 0.85 * weights  # and the adapter's
    # A row of a matrix product rounds otherwise than the product of that row.
    assert torch.allclose(latents(pipeline, stream), before, rtol=1e-4, atol=1e-5)


def test_levels_matter():
    """What is compared above changes with them."""
    pipeline = make_pipeline()
    stream = pipeline.config.stream
    other = copy.deepcopy(pipeline)
    other.transformer.time_embed.timestep_embedder.linear_1.weight.data *= 1.1
    assert not torch.allclose(
        latents(pipeline, stream), latents(other, stream), rtol=1e-4, atol=1e-5
    )


def test_in_bfloat16_levels_are_still_told_apart():
    pipeline = make_pipeline()
    pipeline.fix_levels(replace(pipeline.config.stream, micro_steps=4)).cast(torch.bfloat16)
    fixed = pipeline.transformer.fixed
    time = TIME_SCALE * torch.tensor([[0.0, *fixed.levels]])
    assert fixed.rows(time, 1).flatten().tolist() == list(range(13))


def test_other_streams_are_refused_and_so_is_saving(tmp_path):
    pipeline = make_pipeline()
    stream = replace(pipeline.config.stream, micro_steps=2)
    pipeline.fix_levels(stream)
    geometry = pipeline.config.geometry
    StreamSampler(pipeline.transformer, geometry, stream)
    for other in (replace(stream, micro_steps=4), replace(stream, refine_every=3)):
        with pytest.raises(ValueError, match="levels are fixed for other settings"):
            StreamSampler(pipeline.transformer, geometry, other)
    with pytest.raises(
        ValueError, match="weights dropped; load it anew"
    ):  # not a subset of a table
        pipeline.fix_levels(replace(stream, micro_steps=1))
    with pytest.raises(ValueError, match="weights dropped; load it anew"):
        pipeline.save_pretrained(tmp_path / "weights")
    with pytest.raises(ValueError, match="fixed to those of a stream"):
        pipeline.transformer(torch.zeros(1, 9, 2, 4, 6), torch.zeros(1), None)
