"""Preprocessed folders without pictures, whose tensors tell what they are."""

import torch

from flowact.data.manifest import Clip, Interval, write_manifest
from flowact.data.store import CacheWriter
from flowact.geometry import Geometry

LATENTS, FEATURES = {"vae": "told"}, {"extractor": "told"}
REFERENCES = 3


def told(clip, first, n, size=(2, 3)):
    """Latents [2, n, H, W]: the clip's number, and the latents' own from ``first`` on."""
    numbers = torch.stack([torch.full((n,), float(clip)), torch.arange(first, first + n).float()])
    return numbers[:, :, None, None].expand(-1, -1, *size).bfloat16()


def make_folder(path, chunks, geometry=None, sizes=None, seconds=1.0):
    """Clips of ``chunks[n]`` chunks: stream latents say j, references -10 - r, features 1 + j.

    Captions "0", "1", ... change every ``seconds``, but in the odd clips, which have none.
    """
    geometry = geometry or Geometry()
    path.mkdir()
    latents = CacheWriter(path, "latents", LATENTS)
    features = CacheWriter(path, "features", FEATURES)
    clips = []
    for n, n_chunks in enumerate(chunks):
        id, n_latents = f"clip{n}", n_chunks * geometry.chunk_latents
        size = sizes[n] if sizes else (2, 3)
        references = [told(n, -10 - r, 1, size) for r in range(REFERENCES)]
        latents.add(
            id,
            {
                "latents": told(n, -1, 1 + n_latents, size),
                "references": torch.cat(references, dim=1),
                "focus": torch.ones(2, *size),
                "reference_frames": torch.arange(REFERENCES),
            },
        )
        audio = torch.arange(1.0, n_latents + 1)[:, None, None]
        features.add(id, {"features": audio.expand(-1, geometry.latent_window, 2).contiguous()})
        frames = n_chunks * geometry.chunk_frames + 1
        length = frames / geometry.fps
        starts = [s * seconds for s in range(0 if n % 2 else int(-(-length // seconds)))]
        intervals = tuple(
            Interval(start, min(start + seconds, length), "speak", str(index))
            for index, start in enumerate(starts)
        )
        clips.append(Clip(id, f"{id}.mp4", geometry.fps, frames, intervals=intervals))
    latents.close()
    features.close()
    write_manifest(path, clips)
    return path
