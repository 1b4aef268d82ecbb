"""A tiny network that trains on windows, and a folder of clips that are noise, for it."""

from itertools import pairwise

import torch

from flowact.data.manifest import Clip, Interval, write_manifest
from flowact.data.store import CacheWriter
from flowact.geometry import Geometry
from flowact.models.text_encoder import ByteT5TextEncoder
from flowact.rng import keyed_normal
from flowact.settings import ModelConfig, StreamSettings
from flowact.training.objective import Draws
from flowact.training.window_model import WindowModel

CHANNELS, GRID, FEATURE_DIM, TEXT_DIM = 4, (4, 6), 6, 12


def make_model_config(geometry=None):
    return ModelConfig("tiny", 32, 48, geometry or Geometry(), StreamSettings(shift=2.0))


def make_network(transformer, geometry=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = ByteT5TextEncoder.from_sizes(TEXT_DIM, layers=1, heads=2, max_bytes=64)
    return WindowModel(transformer, text_encoder.eval(), geometry or Geometry())


def make_clips(path, chunks, geometry=None, seconds=0.6, made_by=None, feature_dim=FEATURE_DIM):
    """Clips of ``chunks[n]`` chunks, whose captions change every ``seconds``, each its own."""
    geometry = geometry or Geometry()
    path.mkdir()
    made_by = made_by or {"latents": {}, "features": {}}
    latents, features = (CacheWriter(path, kind, made_by[kind]) for kind in made_by)
    clips = []
    for n, n_chunks in enumerate(chunks):
        id, n_latents = f"clip{n}", n_chunks * geometry.chunk_latents
        frames = n_chunks * geometry.chunk_frames + 1
        drawn = keyed_normal((CHANNELS, 1 + n_latents, *GRID), "clip", n).bfloat16()
        references = keyed_normal((CHANNELS, 2, *GRID), "references", n).bfloat16()
        focus = keyed_normal((2, *GRID), "focus", n).square()
        focus = focus / focus.mean(dim=(1, 2), keepdim=True)
        latents.add(id, {"latents": drawn, "references": references, "focus": focus})
        window = (n_latents, geometry.latent_window, feature_dim)
        features.add(id, {"features": keyed_normal(window, "features", n).bfloat16()})
        edges = [seconds * i for i in range(int(frames / geometry.fps / seconds) + 1)]
        intervals = tuple(
            Interval(start, end, "speak", f"{'waves ' * i}clip {n}")
            for i, (start, end) in enumerate(pairwise(edges))
        )
        clips.append(Clip(id, f"{id}.mp4", geometry.fps, frames, intervals=intervals))
    latents.close()
    features.close()
    write_manifest(path, clips)
    return path


def make_draws(samples, seed=0):
    return Draws(seed, "test", 0, tuple(samples))
