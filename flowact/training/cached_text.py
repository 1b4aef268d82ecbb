"""Prompts by what a frozen encoder made of them before, for encoders too large to train beside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from flowact.data.store import CacheReader, caption_id
from flowact.models.text_encoder import TextInputs


class CachedText(nn.Module):
    """The text caches of preprocessed folders, as an encoder of their captions.

    It has no weights, so that a checkpoint holds none.

    Args:
        folders: preprocessed.
        made_by: what must have made their caches.

    Raises:
        ValueError: a cache is missing, or is of another encoder.
    """

    device: Tensor

    def __init__(self, folders: Sequence[Path], made_by: Mapping[str, Any]) -> None:
        super().__init__()
        self._folders = folders
        self._caches = [CacheReader(folder, "text", made_by) for folder in folders]
        # Moves with the network that this is a part of.
        self.register_buffer("device", torch.empty(0), persistent=False)

    def encode(self, texts: Sequence[str]) -> TextInputs:
        """Embeddings of captions, padded to the longest.

        Raises:
            ValueError: a caption is in none of the caches.
        """
        found = [self._read(text) for text in texts]
        device = self.device.device
        padded = {
            name: pad_sequence([one[name] for one in found], batch_first=True).to(device)
            for name in found[0]
        }
        return TextInputs(**padded)

    def _read(self, text: str) -> dict[str, Tensor]:
        id = caption_id(text)
        for cache in self._caches:
            if id in cache.ids:
                names = ("embeds", "mask", "embeds_2", "mask_2")
                return {name: cache.read(id, name) for name in names}
        raise ValueError(
            f"the caption {text!r} is in no text cache of {', '.join(map(str, self._folders))}; "
            "run scripts/preprocess.py again"
        )
