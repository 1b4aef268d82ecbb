"""Which machine a run is on, in which precision, and with which weights."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from flowact.acceleration.compilation import compile_pipeline
from flowact.acceleration.graphs import capture_pipeline
from flowact.acceleration.offload import offload_pipeline
from flowact.acceleration.quantisation import check_possible
from flowact.index import pipeline_hash
from flowact.models.attention_backends import check_installed
from flowact.parallel.ranks import Ranks, joined, local_rank
from flowact.parallel.rows import SharedRows
from flowact.parallel.shares import share_out
from flowact.pipeline import FlowActPipeline
from flowact.runs import RunConfig, StreamConfig
from flowact.settings import Precision

logger = logging.getLogger(__name__)

UNTRAINED = "untrained: random weights, so the video is noise shaped by an untrained model"


def load_pipeline(config: RunConfig, ranks: Ranks | None = None) -> FlowActPipeline:
    """The preset, or the folder of weights, on its device and in its precision.

    Args:
        ranks: the processes that share its calls, for a ``StreamConfig`` with ``parallel``.

    Raises:
        ValueError: the device is not there, the weights or the decoder cannot be loaded, or
            ``attention`` or ``quantize`` cannot be used here.
    """
    transformers.utils.logging.disable_progress_bar()  # a model loads in less than its bar takes
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.precision, device)
    check_installed(config.attention)
    check_possible(config.quantize, torch.device(device), dtype)
    target = "cpu" if config.offload else device
    if config.weights is None:
        with torch.device(target):  # billions of numbers are drawn where they are used
            pipeline = FlowActPipeline.untrained(config.model, config.seed, dtype)
    else:
        pipeline = FlowActPipeline.from_pretrained(config.weights, dtype)
    if not pipeline.trained:
        logger.warning("%s is %s", pipeline.config.name, UNTRAINED)
    if config.decoder is not None:
        pipeline.use_decoder(config.decoder)
    if config.fixed_levels:
        pipeline.fix_levels(config.stream.over(pipeline.config.stream))
    pipeline.quantise(config.quantize, config.quantize_layers, target)
    if config.offload:
        offload_pipeline(pipeline, torch.device(device))
    else:
        pipeline.to(device)
    if config.decoder_device is not None:
        for module in pipeline.autoencoder.modules:
            module.to(resolve_device(config.decoder_device))
    pipeline.transformer.set_attention_backend(config.attention.name)
    if ranks is not None and isinstance(config, StreamConfig) and config.parallel is not None:
        share_out(pipeline.transformer, config.parallel, ranks)
        if config.decoder is None:  # a thin one is not worth the messages
            pipeline.autoencoder.rows = SharedRows(ranks.beside())
    if config.compile:
        compile_pipeline(pipeline)
    if config.graphs:
        capture_pipeline(pipeline)
    return pipeline


@contextmanager
def shared_pipeline(config: StreamConfig) -> Iterator[tuple[FlowActPipeline, Ranks | None]]:
    """``load_pipeline``, its calls shared out as ``config.parallel`` says; None is one process.

    Raises:
        ValueError: as there; or there are several processes that share nothing, or one that is to.
    """
    if config.parallel is None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                "torchrun started several processes, which share nothing; give parallel=frames or "
                "parallel=tokens, or start one"
            )
        yield load_pipeline(config), None
        return
    with joined(torch.device(resolve_device(config.device))) as ranks:
        yield load_pipeline(config, ranks), ranks


def resolve_device(name: str) -> str:
    """``auto`` is a GPU for each process of this machine, as far as there are, or the CPU.

    Raises:
        ValueError: the device is unknown or not there.
    """
    if name == "auto":
        count = torch.cuda.device_count()  # of those that this process sees: maybe its own alone
        return f"cuda:{local_rank() % count}" if count else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdigit():
        raise ValueError(f"device={name} is unknown; give auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={name} is not there; this machine has {torch.cuda.device_count()}"
        )
    return name


def resolve_dtype(precision: Precision, device: str) -> torch.dtype:
    """What the arithmetic is done in; ``auto`` is bf16 where the machine computes in it."""
    if precision is Precision.auto:
        if torch.device(device).type == "cuda":
            fast = torch.cuda.is_bf16_supported()
        else:
            fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    return {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}[precision]


def describe(config: RunConfig, pipeline: FlowActPipeline, threads: int) -> dict[str, object]:
    """What a report says of a run beside its times."""
    return {
        "model": pipeline.config.name,
        "weights": weights_name(config, pipeline.trained),
        "seed": config.seed,
        "precision": str(pipeline.transformer.dtype).removeprefix("torch."),
        "device": str(pipeline.transformer.device),
        "threads_per_stage": threads,
        "decoder": decoder_name(config),
        "fixed_levels": config.fixed_levels,
        "attention": config.attention.name,
        "quantize": pipeline.transformer.quantised.name,
        "compile": config.compile,
        "graphs": config.graphs,
        "offload": config.offload,
    }


def describe_sharing(config: StreamConfig, ranks: Ranks | None, calls: int) -> dict[str, Any]:
    """What a report says of the processes of a stream of so many model calls."""
    if config.parallel is None or ranks is None:
        return {}
    return {
        "parallel": config.parallel.name,
        "processes": ranks.count,
        "received_bytes_per_call": ranks.traffic.received / max(1, calls),
    }


def decoder_name(config: RunConfig) -> str | None:
    """A hash of the thin decoder's file; None is the autoencoder's own."""
    if config.decoder is None:
        return None
    with Path(config.decoder).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def weights_name(config: RunConfig, trained: bool) -> str:
    """A hash of the files of weights and settings, and whether they are trained."""
    if config.weights is None:
        return UNTRAINED
    name = f"sha256:{pipeline_hash(Path(config.weights))}"
    return name if trained else f"{name}, {UNTRAINED}"
