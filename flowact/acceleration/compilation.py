"""torch.compile for what a steady stream runs: the layers of the backbone, and the decoder."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flowact.acceleration.forms import Forms, form_of
from flowact.pipeline import FlowActPipeline

HOT = 4  # calls of a form; fewer come of each while memory fills up
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def compile_pipeline(pipeline: FlowActPipeline) -> None:
    """Compile for each form of call that comes often, when it does; the others run as they are.

    What was compiled is kept on disk, and found by the next run: in the folder that ``CACHE``
    names, or in ~/.cache/flowact/compiled.
    """
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
    os.environ.setdefault(CACHE, str(Path.home() / ".cache" / "flowact" / "compiled"))
    model: Any = pipeline.transformer
    layers = Compiled()
    model.denoise = layers.watch(model.denoise)
    model.encode_and_denoise = layers.watch(model.encode_and_denoise)
    # Layers that exchange with other processes are compiled in parts.
    for block in model.blocks:
        block.run_video = layers.compiled(block.run_video, whole=not model.is_shared)
    decoder = Compiled()
    autoencoder: Any = pipeline.autoencoder
    decode = decoder.compiled(autoencoder.decode_raw, whole=True)
    autoencoder.decode_raw = decoder.watch(decode)


class Compiled:
    """Functions that run compiled within calls of a form that has come often."""

    def __init__(self) -> None:
        self._forms = Forms(HOT)
        self._hot = False

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, by whose calls the form is told."""

        def call(*inputs: Any) -> Any:
            self._hot = self._forms.are_hot(form_of(inputs)[1])
            return function(*inputs)

        return call

    def compiled(self, function: Callable[..., Any], whole: bool) -> Callable[..., Any]:
        """``function``, compiled; ``whole`` raises rather than leave a part of it as it is."""
        fast = torch.compile(function, fullgraph=whole, dynamic=False)

        def call(*inputs: Any) -> Any:
            return (fast if self._hot else function)(*inputs)

        return call
