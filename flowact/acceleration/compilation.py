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
MOST = 8  # forms: each length of a prompt is one, and takes a while to compile
KINDS = 8  # of layer, at most, each compiled for each form
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def compile_pipeline(pipeline: FlowActPipeline) -> None:
    """Compile for each form of call that comes often, when it does; the others run as they are.

    What was compiled is kept on disk, and found by the next run: in the folder that ``CACHE``
    names, or in ~/.cache/flowact/compiled.

    Raises:
        ValueError: the model is shared among processes.
    """
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
    os.environ.setdefault(CACHE, str(Path.home() / ".cache" / "flowact" / "compiled"))
    model: Any = pipeline.transformer
    if model.is_shared:
        raise ValueError("compile=true compiles the calls of one process; drop it, or parallel")
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, MOST * KINDS)
    layers = Compiled()
    model.denoise = layers.watch(model.denoise)
    model.encode_and_denoise = layers.watch(model.encode_and_denoise)
    for block in model.blocks:
        block.run_video = layers.compiled(block.run_video)
    decoder = Compiled()
    autoencoder: Any = pipeline.autoencoder
    decode = decoder.compiled(autoencoder.decode_raw)
    autoencoder.decode_raw = decoder.watch(decode)


class Compiled:
    """Functions that run compiled within calls of a form that has come often."""

    def __init__(self) -> None:
        self._forms = Forms(HOT, MOST)
        self._hot = False

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, by whose calls the form is told."""

        def call(*inputs: Any) -> Any:
            self._hot = self._forms.are_hot(form_of(inputs)[1])
            return function(*inputs)

        return call

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, compiled as a whole."""
        fast = torch.compile(function, fullgraph=True, dynamic=False)

        def call(*inputs: Any) -> Any:
            return (fast if self._hot else function)(*inputs)

        return call
