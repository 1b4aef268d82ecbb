"""Training windows by their sample index (design 7, 9)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from flowact.data.data_folder import DataFolder, Windows
from flowact.data.sampler import Draws, Pool, pools_of_folder
from flowact.data.windows import WindowsConfig, choose
from flowact.geometry import Geometry
from flowact.seeds import stable_seed


class WindowDataset(Dataset[Windows]):
    """Sample n of a training run, a pure function of n: a batch of one window.

    Args:
        folders: preprocessed folders, and how often each is drawn from in proportion.
        geometry: the model's.
        config: which windows are drawn.
        micro_batch: samples that follow each other and have one shape (see ``Draws``).
        seed: of all draws.
        audio: whether audio features are read.
        made_by: of ``latents`` and ``features``, what must have made the caches.
        long_term_stride: of the stream (see ``StreamSettings``).
        chunks: of each window; None is as many as a stream has at a tick.

    Raises:
        ValueError: a folder does not do (see ``DataFolder``), all its clips are too short, a weight
            is not above 0, or ``config.start`` does not fit the geometry.
    """

    def __init__(
        self,
        folders: Mapping[Path, float],
        geometry: Geometry,
        config: WindowsConfig,
        micro_batch: int = 1,
        seed: int = 0,
        audio: bool = True,
        made_by: Mapping[str, Mapping[str, Any]] | None = None,
        long_term_stride: int = 1,
        chunks: int | None = None,
    ) -> None:
        starts = geometry.depth if chunks is None else 1
        if len(config.start) != starts:
            raise ValueError(
                f"windows.start has {len(config.start)} numbers; give {starts}, one for "
                "each number of chunks that a window at the start of a clip may have"
            )
        if not folders or not all(0 < weight < float("inf") for weight in folders.values()):
            given = {str(path): weight for path, weight in folders.items()}
            raise ValueError(f"the data folders are {given}; give each a weight above 0")
        self.config = config
        self.seed = seed
        self.folders = [
            DataFolder(path, geometry, audio, made_by, long_term_stride) for path in folders
        ]
        pools: list[Pool] = []
        for number, (folder, weight) in enumerate(zip(self.folders, folders.values(), strict=True)):
            share = weight / sum(folders.values())
            own = pools_of_folder(
                number,
                share,
                folder.chunks,
                folder.sizes,
                geometry,
                long_term_stride,
                config,
                chunks,
            )
            if not own:
                raise ValueError(
                    f"{folder.path}: has no clip for windows.start and the rest; "
                    f"a clip needs {(chunks or geometry.depth) + 1} chunks for all of them"
                )
            pools += own
        self.draws = Draws(pools, micro_batch, seed)

    def __getitem__(self, sample: int) -> Windows:
        draw = self.draws[sample]
        folder = self.folders[draw.folder]
        rng = np.random.default_rng(stable_seed(self.seed, "window", sample))
        captions, references = folder.captions(draw.clip), folder.references(draw.clip)
        choice = choose(draw.shape, captions, references, self.config, rng)
        return folder.window(draw.clip, draw.shape.chunks, choice, self.config)
