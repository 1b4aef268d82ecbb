"""Low-rank adaptation of the backbone (LoRA, Hu et al. 2021), by the ``peft`` library.

The weights that a run begins with stay as they are; updates of them, each the product of two narrow
matrices, are trained.
"""

from torch import nn

from flowact.models.transformer import FlowActTransformer3DModel
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import LoraSettings

LAYERS = "transformer_blocks"


def add_lora(network: WindowModel, settings: LoraSettings) -> None:
    """Freeze all of ``network``, and give linears of its backbone updates to train, zero so far.

    A linear that is frozen already, since it can change no velocity, gets none. The guidance
    embedding, which the base does not have, is trained in full.

    Raises:
        ValueError: a target is no part of any layer.
    """
    from peft import LoraConfig  # takes a while, which runs without it need not wait

    assert settings.rank is not None
    linears = _linears(network.transformer, settings.targets)
    network.requires_grad_(False)
    if network.transformer.guidance_embed is not None:
        network.transformer.guidance_embed.requires_grad_(True)
    network.transformer.add_adapter(
        LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=linears)
    )


def merge_lora(transformer: FlowActTransformer3DModel) -> None:
    """Add the updates to the weights they are of, in place; no trace of them stays."""
    transformer.fuse_lora()
    transformer.unload_lora()


def _linears(transformer: FlowActTransformer3DModel, targets: tuple[str, ...]) -> list[str]:
    """Names of the linears in the parts of layers that ``targets`` name."""
    layers = getattr(transformer, LAYERS)
    found, missing = [], set(targets)
    for name, module in layers.named_modules(prefix=LAYERS):
        if isinstance(module, nn.Linear):
            in_layer = ".".join(name.split(".")[2:])
            inside = {target for target in targets if f"{in_layer}.".startswith(f"{target}.")}
            missing -= inside
            if inside and module.weight.requires_grad:
                found.append(name)
    if missing:
        parts = {name for layer in layers for name, _ in layer.named_children()}
        raise ValueError(
            f"lora.targets has {', '.join(sorted(missing))}, where no layer has a linear; layers "
            f"are made of {', '.join(sorted(parts))}"
        )
    return found
