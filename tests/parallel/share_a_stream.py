"""A tiny stream shared by the processes of torchrun: python share_a_stream.py OUTPUT [CASE ...]."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny import tiny_config

from flowact.parallel.ranks import joined
from flowact.parallel.shares import share_out
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.settings import Parallel, StreamSettings
from flowact.streaming.prompts import Prompt, PromptSchedule

PERSON = Path(__file__).parents[2] / "flowact" / "assets" / "person.png"
TICKS = 6  # the ramp-up, and then latents that leave memory's queue


def stream(transformer, settings, batch=1, share=lambda model: None):
    """Every estimate of the ticks, and memory's latents."""
    model = tiny_config()
    heads = {"num_attention_heads": 6, "attention_head_dim": 8, "rope_axes_dim": (2, 4, 2)}
    changed = replace(model.transformer, **heads, **transformer)
    model = replace(model, transformer=changed, stream=StreamSettings(shift=2.0))
    pipeline = FlowActPipeline.untrained(model)
    with torch.no_grad():  # zeros at the start of training would hide the adapter
        for weight in pipeline.transformer.parameters():
            weight.add_(0.02 * keyed_normal(tuple(weight.shape), "weight"))
    share(pipeline.transformer)
    geometry = model.geometry
    prompts = PromptSchedule((Prompt(0.0, "She waves."), Prompt(1.2, "He nods.")), geometry)
    session = pipeline.session(
        PERSON, prompts, seeds=range(batch), stream=replace(model.stream, **settings)
    )
    samples = (TICKS + 1) * geometry.chunk_frames * geometry.frame_samples
    session.push(keyed_normal((samples,), "sound") / 10)
    found = []
    for _ in range(TICKS):
        tick = session.tick(session.conditions())
        session.skip()
        found += [tick.estimates, tick.state.memory.short_term.latent]
    return torch.cat([x.flatten() for x in found])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with joined(torch.device("cpu")) as ranks:
        for word in sys.argv[2:]:
            name, _, text = word.partition("=")
            asked = json.loads(text)
            parallel = Parallel[asked.pop("parallel")]
            ranks.traffic.received = 0
            made = stream(share=lambda m, p=parallel: share_out(m, p, ranks), **asked)
            torch.save((made, ranks.traffic.received), folder / f"{name}-{ranks.rank}.pt")
