"""The matrices of the layers in 8 bits, by torchao (paper 2.4).

``int8`` and ``fp8`` round activations too, token by token as they come, and multiply in 8 bits.
The others round weights alone, a scale for each row: half the memory of bfloat16, and products in
the model's own precision.
"""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from flowact.models.transformer import FlowActTransformer3DModel
from flowact.settings import QUANTIZED_LAYERS, Quantize

logger = logging.getLogger(__name__)

WITH_ACTIVATIONS = (Quantize.int8, Quantize.fp8)

# Products of 8 bits go by this many numbers. Of other layers torchao would leave fp8 out without a
# word, and multiply int8 on the CPU.
CELL = 16

FP8_FROM, INT8_FROM = (8, 9), (8, 0)


def resolve(kind: Quantize, device: torch.device) -> Quantize:
    """``kind``, or what suits the device where it is ``auto``, which is logged."""
    if kind is not Quantize.auto:
        return kind
    chosen, reason = choose(_capability(device))
    logger.warning("quantize=auto is %s: %s", chosen.name, reason)
    return chosen


def choose(capability: tuple[int, int] | None) -> tuple[Quantize, str]:
    """What suits a GPU of ``capability`` (None: no GPU), and why."""
    if capability is None:
        return Quantize.none, "no CPU is known to be faster in 8 bits"
    version = ".".join(map(str, capability))
    if capability >= FP8_FROM:
        return Quantize.fp8, f"compute capability {version} multiplies fp8"
    if capability >= INT8_FROM:
        return Quantize.int8, f"compute capability {version} multiplies int8, and no fp8"
    return Quantize.none, f"compute capability {version} is before 8.0"


def check_possible(kind: Quantize, device: torch.device, dtype: torch.dtype) -> None:
    """Whether ``device`` computes ``kind`` of a model in ``dtype``; to be asked before it loads.

    Raises:
        ValueError: it does not, or torchao is missing.
    """
    if kind not in (Quantize.none, Quantize.auto) and find_spec("torchao") is None:
        raise ValueError(f"quantize={kind.name} needs torchao: pip install 'flowact[lowbit]'")
    if kind is not Quantize.fp8:
        return
    capability = _capability(device)
    if capability is None or capability < FP8_FROM:
        here = "no GPU" if capability is None else ".".join(map(str, capability))
        raise ValueError(
            f"quantize=fp8 needs a GPU of compute capability 8.9 or more, and {device} is {here}; "
            "give quantize=int8, or fp8_weights to save memory alone"
        )
    if dtype is not torch.bfloat16:
        raise ValueError(f"quantize=fp8 needs precision=bf16, and this is {dtype}")


def quantise(
    model: FlowActTransformer3DModel,
    kind: Quantize,
    patterns: Sequence[str] = QUANTIZED_LAYERS,
    device: torch.device | str | None = None,
) -> None:
    """Quantise linear layers of ``model``, which keeps ``kind`` as ``quantised``.

    Args:
        model: in the precision that it shall compute in; it can be neither saved nor cast after.
        kind: ``auto`` as ``resolve`` has it.
        patterns: globs over the names of its modules. Those of the default may match nothing, as
            not every model has text or audio in its layers.
        device: where the model is to run; None where it is. Layers go there one by one, so that a
            model fits that did not before.

    Raises:
        ValueError: torchao is missing, the device or the precision cannot do it, or a pattern
            matches no linear layer.
    """
    target = model.device if device is None else torch.device(device)
    kind = resolve(kind, target)
    if kind is Quantize.none:
        return
    if model.quantised is not Quantize.none:
        raise ValueError(f"the model is quantised already, to {model.quantised.name}; load it anew")
    check_possible(kind, target, model.dtype)
    chosen = quantised_layers(model, kind, patterns)
    _apply(model, kind, chosen, target)
    model.quantised = kind


def quantised_layers(
    model: nn.Module, kind: Quantize, patterns: Sequence[str] = QUANTIZED_LAYERS
) -> list[str]:
    """Names of the layers that ``quantise`` takes; those that do not fit are logged.

    Raises:
        ValueError: a pattern matches no linear layer, or none that matches fits.
    """
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    matched: dict[str, nn.Linear] = {}
    for pattern in patterns:
        found = {name: layer for name, layer in linear.items() if fnmatchcase(name, pattern)}
        if not found and pattern not in QUANTIZED_LAYERS:
            raise ValueError(
                f"quantize_layers: {pattern} matches no linear layer; there are "
                f"{next(iter(linear), 'none')} and {len(linear) - 1} more"
            )
        matched |= found
    misfits = [name for name, layer in matched.items() if not _fits(layer)]
    if kind not in WITH_ACTIVATIONS:
        misfits = []
    if matched and len(misfits) == len(matched):
        raise ValueError(
            f"quantize={kind.name} needs layers whose sizes are multiples of {CELL}, and none of "
            f"the {len(matched)} is; give quantize={kind.name}_weights"
        )
    if misfits:
        logger.warning(
            "%d of %d layers stay as they are under quantize=%s, since their sizes are not "
            "multiples of %d: %s",
            len(misfits), len(matched), kind.name, CELL, ", ".join(misfits),
        )  # fmt: skip
    return [name for name in matched if name not in misfits]


def _fits(layer: nn.Linear) -> bool:
    return layer.in_features % CELL == 0 and layer.out_features % CELL == 0


def _capability(device: torch.device) -> tuple[int, int] | None:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def _apply(model: nn.Module, kind: Quantize, chosen: Sequence[str], device: torch.device) -> None:
    from torchao import quantization

    # torchao would set Inductor's options, and TF32, for the whole process.
    configs: dict[Quantize, Any] = {
        Quantize.int8: lambda: quantization.Int8DynamicActivationInt8WeightConfig(
            set_inductor_config=False
        ),
        Quantize.fp8: lambda: quantization.Float8DynamicActivationFloat8WeightConfig(
            granularity=quantization.PerRow(), set_inductor_config=False
        ),
        Quantize.int8_weights: lambda: quantization.Int8WeightOnlyConfig(set_inductor_config=False),
        Quantize.fp8_weights: lambda: quantization.Float8WeightOnlyConfig(
            set_inductor_config=False
        ),
    }
    names = set(chosen)
    quantization.quantize_(
        model, configs[kind](), filter_fn=lambda _, name: name in names, device=device
    )
