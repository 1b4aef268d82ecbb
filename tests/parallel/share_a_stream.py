"""A tiny stream shared by the processes of torchrun: python share_a_stream.py OUTPUT [CASE ...]."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLHunyuanVideo15
from tiny import tiny_config

from flowact.models.components import build_autoencoder
from flowact.models.vae import wrap_autoencoder
from flowact.parallel.ranks import joined
from flowact.parallel.rows import SharedRows
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
        found += [tick.estimates, tick.state.memory.short_term.latent]
    return torch.cat([x.flatten() for x in found])


def decoded(kind, rows=None):
    """Frames of a stream of latents of five rows, which do not divide evenly."""
    torch.manual_seed(0)
    if kind == "wan":
        module = build_autoencoder(tiny_config().autoencoder)
    else:
        channels = (8, 16, 32, 32, 32)
        module = AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=channels, layers_per_block=1
        )
    autoencoder = wrap_autoencoder(module.eval(), window=2)
    autoencoder.rows = rows or autoencoder.rows
    latents = keyed_normal((1, 4, 6, 5, 4), "latents")
    frames, cache = [], None
    for part in latents.split((1, 3, 2), dim=2):
        made, cache = autoencoder.decode(part, cache)
        frames.append(made)
    return torch.cat(frames, dim=2)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with joined(torch.device("cpu")) as ranks:
        for word in sys.argv[2:]:
            name, _, text = word.partition("=")
            asked = json.loads(text)
            if name in ("wan", "hunyuan15"):
                made = decoded(name, SharedRows(ranks.beside()))
                torch.save(made, folder / f"{name}-{ranks.rank}.pt")
                continue
            parallel = Parallel[asked.pop("parallel")]
            ranks.traffic.received = 0
            made = stream(share=lambda m, p=parallel: share_out(m, p, ranks), **asked)
            torch.save((made, ranks.traffic.received), folder / f"{name}-{ranks.rank}.pt")
