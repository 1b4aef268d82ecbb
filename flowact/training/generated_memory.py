"""Generated-GT memory: training remembers what a model made, as the stream will (design 8.1).

Ground truth is noised and denoised by a model trained before, under true memory and conditions,
and stored beside the truth; later training takes some memory slots from there.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from flowact.data.data_folder import DataFolder, Windows
from flowact.data.encoders import STORED
from flowact.data.store import CacheReader, CacheWriter, remove_other_caches
from flowact.data.window_dataset import WindowDataset
from flowact.data.windows import Choice, WindowsConfig
from flowact.diffusion import flow
from flowact.diffusion.levels import Levels
from flowact.index import read_index
from flowact.ranks import rank_and_world
from flowact.rng import keyed_normal, keyed_uniform
from flowact.runtime import resolve_device, resolve_dtype
from flowact.seeds import stable_seed
from flowact.settings import ModelConfig
from flowact.training.tasks import Task, clean_buffer
from flowact.training.window_settings import GenerateLatentsConfig
from flowact.training.window_start import load_start

KIND = "generated"


class GeneratedMemory(Dataset[Windows]):
    """Windows of which some remember generated latents, in all long- and short-term slots.

    The reference, and the image at the start of a clip, are never generated.

    Args:
        windows: as they are in the clips.
        probability: of generated memory.
        seed: of the draws.

    Raises:
        ValueError: a folder has no generated latents, several kinds of them, those of others than
            its own, or not those of all its clips.
    """

    def __init__(self, windows: WindowDataset, probability: float, seed: int) -> None:
        self.windows = windows
        self.probability = probability
        self.seed = seed
        self._generated = [_read_cache(folder) for folder in windows.folders]

    def __getitem__(self, sample: int) -> Windows:
        windows = self.windows[sample]
        rng = np.random.default_rng(stable_seed(self.seed, "generated memory", sample))
        if rng.random() >= self.probability:
            return windows
        cache = self._generated[self.windows.draws[sample].folder]
        (info,) = windows.infos

        def read(latent: int) -> Tensor:
            return cache.read(info.clip, "latents", (slice(None), slice(latent, latent + 1)))

        return remembering(windows, read)


def remembering(windows: Windows, read: Callable[[int], Tensor]) -> Windows:
    """A window whose memory is what ``read`` gives of each stream latent, [C, 1, H, W].

    The reference, and the image at the start of a clip, stay.
    """
    (info,) = windows.infos
    reference, *memory = windows.context.split(1, dim=2)
    for place, latent in enumerate(info.memory):
        if latent >= 0:  # -1 is the image
            memory[place] = read(latent)[None]
    return replace(windows, context=torch.cat([reference, *memory], dim=2))


def with_generated_memory(
    windows: WindowDataset, probability: float, seed: int
) -> Dataset[Windows]:
    """``windows``, a share of them with generated memory; without one no cache is needed."""
    return GeneratedMemory(windows, probability, seed) if probability else windows


def generate_latents(config: GenerateLatentsConfig) -> None:
    """Store the generated latents of each clip of ``config.folders``, [C, stream latents, H, W].

    A run that was stopped goes on where it was; several processes share the clips. Once a folder
    has those of all clips, what it had before, by other settings or weights, is removed.

    Raises:
        ValueError: the weights or a folder will not do.
    """
    rank, world = rank_and_world()
    folders = tuple(map(Path, config.folders))
    start = load_start(read_index(Path(config.weights))[0], config.weights, config.seed, folders)
    dtype = resolve_dtype(config.precision, device := resolve_device(config.device))
    network = start.network.requires_grad_(False).to(device, dtype)
    made_by = {
        "latents": start.made_by["latents"],
        "weights": _digest(Path(config.weights)),
        "levels": list(config.levels),
        "steps": config.steps,
        "accumulate": config.accumulate,
        "audio": config.audio,
        "seed": config.seed,
        "precision": str(dtype).removeprefix("torch."),
    }
    for path in folders:
        folder = DataFolder(
            path,
            start.model.geometry,
            config.audio,
            start.made_by,
            start.model.stream.long_term_stride,
        )
        writer = CacheWriter(path, KIND, made_by, rank)
        for clip in tqdm(range(rank, len(folder.clips), world), desc=path.name, disable=None):
            id = folder.clips[clip].id
            if id not in writer.done:
                latents = generated_clip(network, start.model, folder, clip, config)
                writer.add(id, {"latents": latents.to("cpu", STORED)})
        writer.close()
        if {clip.id for clip in folder.clips} <= CacheReader(path, KIND, made_by).ids:
            remove_other_caches(writer.folder)


@torch.no_grad()
def generated_clip(
    network: nn.Module,
    model: ModelConfig,
    folder: DataFolder,
    clip: int,
    config: GenerateLatentsConfig,
) -> Tensor:
    """Stream latents of a clip, [C, F, H, W], depth chunks at a time, each time at one level.

    With ``config.accumulate`` they are made under the memory of those made before.
    """
    geometry, id = model.geometry, folder.clips[clip].id
    chunks = folder.chunks[clip]
    depth = min(geometry.depth, chunks)
    device = next(network.parameters()).device
    low, high = config.levels
    made = torch.empty(0)  # until the first part: nothing is read of it
    for begin in range(0, chunks, depth):
        oldest = min(begin, chunks - depth)  # the last ones overlap with those before
        choice = Choice(oldest, reference=0, drop_text=False, drop_audio=False)
        window = folder.window(clip, depth, choice, WindowsConfig()).to(device)
        if config.accumulate:
            window = remembering(window, lambda at: made[:, at : at + 1])  # noqa: B023 (called now)
        clean = clean_buffer(window, Task.STREAM, geometry)
        key = (config.seed, "generated", id, oldest)
        noise = keyed_normal(tuple(clean.latents.shape), *key).to(device)
        level = low + (high - low) * float(keyed_uniform((), *key, "level"))
        levels = Levels(geometry.depth, config.steps, model.stream.shift).repair(level)
        buffer = clean.noised(noise, torch.full_like(clean.levels, level))
        for now, then in pairwise(levels):
            moved = flow.euler(buffer.latents, network(buffer), now, then)
            buffer = replace(buffer, latents=moved, levels=torch.full_like(clean.levels, then))
        new = buffer.latents[0, :, (begin - oldest) * geometry.chunk_latents :]
        made = torch.cat([made, new], dim=1) if begin else new
    return made


def _read_cache(folder: DataFolder) -> CacheReader:
    cache = CacheReader(folder.path, KIND)
    if cache.made_by["latents"] != folder.latents.made_by:
        raise ValueError(
            f"{cache.folder}: was made from other latents than the folder's; remove it and run "
            "scripts/make_generated_latents.py again"
        )
    if missing := sorted({clip.id for clip in folder.clips} - cache.ids):
        raise ValueError(
            f"{cache.folder}: lacks {len(missing)} of {len(folder.clips)} clips, such as "
            f"{missing[0]}; run scripts/make_generated_latents.py again"
        )
    return cache


def _digest(weights: Path) -> str:
    """A hash of the backbone's files."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted((weights / "transformer").glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
