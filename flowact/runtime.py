"""Which machine a run is on, in which precision, and with which weights."""

import logging
from pathlib import Path

import torch
import transformers

from flowact.acceleration.quantisation import check_possible
from flowact.index import pipeline_hash
from flowact.models.attention_backends import check_installed
from flowact.pipeline import FlowActPipeline
from flowact.runs import Precision, RunConfig

logger = logging.getLogger(__name__)

UNTRAINED = "untrained: random weights, so the video is noise shaped by an untrained model"


def load_pipeline(config: RunConfig) -> FlowActPipeline:
    """The preset, or the folder of weights, on its device and in its precision.

    Raises:
        ValueError: the device is not there, the weights cannot be loaded, or ``attention`` or
            ``quantize`` cannot be used here.
    """
    transformers.utils.logging.disable_progress_bar()  # a model loads in less than its bar takes
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.precision, device)
    check_installed(config.attention)
    check_possible(config.quantize, torch.device(device), dtype)
    if config.weights is None:
        pipeline = FlowActPipeline.untrained(config.model, config.seed, dtype)
    else:
        pipeline = FlowActPipeline.from_pretrained(config.weights, dtype)
    if not pipeline.trained:
        logger.warning("%s is %s", pipeline.config.name, UNTRAINED)
    if config.fixed_levels:
        pipeline.fix_levels(config.stream.over(pipeline.config.stream))
    pipeline.quantise(config.quantize, config.quantize_layers, device).to(device)
    pipeline.transformer.set_attention_backend(config.attention.name)
    return pipeline


def resolve_device(name: str) -> str:
    """``auto`` is the first GPU, or the CPU.

    Raises:
        ValueError: the device is unknown or not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
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
        "fixed_levels": config.fixed_levels,
        "attention": config.attention.name,
        "quantize": pipeline.transformer.quantised.name,
    }


def weights_name(config: RunConfig, trained: bool) -> str:
    """A hash of the files of weights and settings, and whether they are trained."""
    if config.weights is None:
        return UNTRAINED
    name = f"sha256:{pipeline_hash(Path(config.weights))}"
    return name if trained else f"{name}, {UNTRAINED}"
