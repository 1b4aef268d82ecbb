"""What a tick costs, counted from the model as it is, and how fast that can be on a GPU.

The stream runs on tensors without storage, so that any machine can count any preset. Counted are
the products: linear layers, attention and convolutions, with the bytes that they read and write.
What lies between them can be fused into them, and is left out.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from flowact.evaluation.against_diffusers import steady_tick
from flowact.models.components import build_autoencoder
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.models.vae import VideoAutoencoder, wrap_autoencoder
from flowact.models.vae_thin import ThinAutoencoder, ThinDecoder
from flowact.settings import ModelConfig
from flowact.training.memory import on_cpu

F = nn.functional
DECODER, MODULATION = "decoder", "modulation"
REACHED = 0.45  # of the roofline, that good kernels reach: an assumption of the table


@dataclass
class Work:
    """Of one kind of layer in one tick.

    Attributes:
        linear, attention, convolution: floating-point operations of products.
        weights: bytes of their weights, each read once, at two bytes a number.
        activations: bytes that they read and write besides, at two bytes a number.
    """

    linear: int = 0
    attention: int = 0
    convolution: int = 0
    weights: int = 0
    activations: int = 0

    @property
    def flops(self) -> int:
        return self.linear + self.attention + self.convolution


@dataclass(frozen=True)
class Gpu:
    """Peaks of a GPU, dense: operations a second by precision, and bytes a second.

    Attention and convolutions stay in bfloat16.

    Attributes:
        bandwidth: of its memory.
        link: of NVLink, one way.
    """

    flops: Mapping[str, float]
    bandwidth: float
    link: float


# From NVIDIA's data sheets: A100 80 GB SXM, H100 SXM, H200 SXM.
GPUS = {
    "A100": Gpu({"bf16": 312e12, "int8": 624e12}, 2.04e12, 300e9),
    "H100": Gpu({"bf16": 990e12, "int8": 1979e12, "fp8": 1979e12}, 3.35e12, 450e9),
    "H200": Gpu({"bf16": 990e12, "int8": 1979e12, "fp8": 1979e12}, 4.8e12, 450e9),
}


class Products(TorchFunctionMode):
    """Counts the products that run under it, by the kind of layer that ``kind_of`` tells.

    Attributes:
        work: of each kind.
    """

    def __init__(self, kind_of: Callable[[Tensor | None], str]) -> None:
        super().__init__()
        self.work: dict[str, Work] = defaultdict(Work)
        self._kind_of = kind_of

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is F.linear:
            x, weight = args[:2]
            self._count(weight, [x, made], linear=2 * x.numel() * len(weight))
        elif func in (F.conv2d, F.conv3d, torch.conv2d, torch.conv3d):
            x, weight = args[:2]
            self._count(weight, [x, made], convolution=2 * made.numel() * weight[0].numel())
        elif func is torch.bmm:  # attention where the fused kernel would be slower
            self._count(None, [*args[:2], made], attention=2 * made.numel() * args[0].shape[-1])
        elif func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, key, value = named["query"], named["key"], named["value"]
            pairs = query[..., 0].numel() * key.shape[-2]
            sizes = query.shape[-1] + value.shape[-1]
            self._count(None, [query, key, value, made], attention=2 * pairs * sizes)
        return made

    def _count(self, weight: Tensor | None, moved: list[Tensor], **flops: int) -> None:
        work = self.work[self._kind_of(weight)]
        for name, count in flops.items():
            setattr(work, name, getattr(work, name) + count)
        work.weights += 0 if weight is None else 2 * weight.numel()
        work.activations += sum(2 * tensor.numel() for tensor in moved)


def tick_work(
    model: ModelConfig, text_tokens: int, decoder: ThinDecoder | None = None
) -> dict[str, Work]:
    """Of a steady tick of a stream of ``model``, and of decoding its chunk, by kind of layer.

    Text and context are in memory, but for the short-term latent, which is new; all chunks have one
    prompt of ``text_tokens`` tokens. A thin ``decoder`` takes the place of the autoencoder's.
    """
    transformer, autoencoder = without_storage(model), decoder_of(model, decoder)
    # Outside of the fake mode, so that what is not derived from weights keeps its values: whether a
    # mask hides anything decides which kernel runs.
    with torch.no_grad():
        tick = steady_tick(transformer, model, text_tokens)
        with Products(Kinds(transformer)) as counted:
            tick()
        work = dict(counted.work)
        chunk_size = (model.geometry.chunk_latents, *model.latent_size)
        chunk = torch.empty(1, model.transformer.out_channels, *chunk_size, device="meta")
        _, cache = autoencoder.decode(chunk)
        with Products(lambda _: DECODER) as counted:
            autoencoder.decode(chunk, cache)
    return work | counted.work


def decoder_of(model: ModelConfig, decoder: ThinDecoder | None) -> VideoAutoencoder:
    """The autoencoder of ``model`` on the meta device, with a thin decoder if one is given."""
    with torch.device("meta"):
        module = build_autoencoder(model.autoencoder).eval()
    nn.Module.to(module, torch.bfloat16)
    full = wrap_autoencoder(module, window=model.autoencoder.window)
    return full if decoder is None else ThinAutoencoder(full, decoder.to("meta", torch.bfloat16))


def without_storage(model: ModelConfig) -> FlowActTransformer3DModel:
    """The backbone of ``model``, whose weights take no memory."""
    with torch.device("meta"):
        on_meta = FlowActTransformer3DModel(**dataclasses.asdict(model.transformer)).eval()
        nn.Module.to(on_meta, torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=True):
        return on_cpu(on_meta)


class Kinds:
    """Tells the kind of layer by its weights; attention is of the layer that had the last ones."""

    def __init__(self, transformer: FlowActTransformer3DModel) -> None:
        self._kinds: dict[int, str] = {}
        for name, parameter in transformer.named_parameters():
            kind = "before and after the layers"
            if name.startswith("transformer_blocks."):
                layer = int(name.split(".")[1])
                kind = f"{transformer.transformer_blocks[layer].kind} layers"
            if ".audio." in name or name.startswith("audio_projector."):
                kind = "audio adapter"
            elif ".norm1.linear." in name:
                kind = MODULATION
            self._kinds[id(parameter)] = kind
        self._last = ""

    def __call__(self, weight: Tensor | None) -> str:
        if weight is not None:
            self._last = self._kinds[id(weight)]
        return self._last


def roofline(work: Mapping[str, Work], gpu: Gpu, precision: str) -> float:
    """Seconds that ``work`` takes at least, each kind by its operations or by its bytes."""
    low = gpu.flops[precision]
    high = gpu.flops["bf16"]
    size = 1 if precision == "bf16" else 0.5
    return sum(
        max(
            w.linear / low + (w.attention + w.convolution) / high,
            (size * w.weights + w.activations) / gpu.bandwidth,
        )
        for w in work.values()
    )
