"""Files of thin decoders: TAEHV's, and those that are trained here.

TAEHV's hold an encoder too, which is left out. Activations are not in a file: TAEHV's own code has
ReLUs. ComfyUI runs files of 32 latent channels with leaky ones, so that there may be some of the
same names that are not meant here, such as LightX2V's lighttaehy1_5.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from flowact.models.vae_thin import BEFORE_STAGES, ThinDecoder, ThinSizes

SAVED_AS = "thin_decoder.safetensors"  # in the folder of a pipeline that decodes with one


def load_thin_decoder(path: str | Path) -> ThinDecoder:
    """The decoder in a file of TAEHV's (.safetensors or .pth), or of ``save_thin_decoder``.

    Its sizes are those of the weights. In float32, on the CPU.

    Raises:
        ValueError: there is no such file, or it holds no such decoder, or more; keys are named.
    """
    state = _read(Path(path))
    others = [key for key in state if not key.startswith(("decoder.", "encoder."))]
    try:
        sizes = _sizes_of(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"decoder={path} is no thin decoder: its weights lack, or do not fit, {error}; "
            "give one such as taehv1_5.safetensors, or what scripts/export.py wrote of "
            "experiment=vae_thin"
        ) from error
    decoder = ThinDecoder(sizes)
    wanted = decoder.state_dict()
    own = {key: value for key, value in state.items() if key.startswith("decoder.")}
    wrong = {
        "lacks": wanted.keys() - own.keys(),
        "has besides": (own.keys() - wanted.keys()) | set(others),
        "has in other shapes": {
            key for key in wanted.keys() & own.keys() if wanted[key].shape != own[key].shape
        },
    }
    if told := [f"{what} {_named(keys)}" for what, keys in wrong.items() if keys]:
        raise ValueError(
            f"decoder={path} is no thin decoder: it {'; it '.join(told)}; give a whole one"
        )
    decoder.load_state_dict(own)
    return decoder.eval()


def save_thin_decoder(decoder: ThinDecoder, path: Path) -> None:
    """Write what ``load_thin_decoder`` reads."""
    state = {key: value.contiguous() for key, value in decoder.state_dict().items()}
    safetensors.torch.save_file(state, path, metadata={"format": "pt"})


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name; nothing else in a file is run."""
    if not path.is_file():
        raise ValueError(f"decoder={path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"decoder={path} cannot be read: {reason}; give a .safetensors or .pth file"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"decoder={path} holds other things than weights by name")
    return state


def _sizes_of(state: Mapping[str, Tensor]) -> ThinSizes:
    """Read off the weights: a stage ends in the growth of its frames and a convolution."""
    growths = [n for n in range(len(state)) if f"decoder.{n}.conv.weight" in state]
    if not growths:
        raise KeyError("decoder.N.conv.weight")
    grown = [state[f"decoder.{n}.conv.weight"].shape for n in growths]
    outputs = len(state[f"decoder.{growths[-1] + 3}.bias"])
    patch = math.isqrt(outputs // 3)
    if any(rows % columns for rows, columns, *_ in grown) or 3 * patch**2 != outputs:
        raise ValueError("a whole number of frames and of pixels")
    last = len(state[f"decoder.{growths[-1] + 1}.weight"])
    return ThinSizes(
        latent_channels=state["decoder.1.weight"].shape[1],
        widths=(*(columns for _, columns, *_ in grown), last),
        time=tuple(rows // columns for rows, columns, *_ in grown),
        patch=patch,
        blocks=growths[0] - BEFORE_STAGES - 1,
    )


def _named(keys: Iterable[str], most: int = 5) -> str:
    names = sorted(keys)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")
