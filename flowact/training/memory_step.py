"""One step of training, watched: what it keeps, and how much lives while it runs."""

import dataclasses
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowact.data.data_folder import WindowInfo, Windows
from flowact.data.focus import KINDS
from flowact.data.windows import Kind
from flowact.models.byte_t5 import BYTES_PER_TOKEN
from flowact.models.components import build_text_encoder
from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.settings import ModelConfig, TextEncoderKind
from flowact.training.lora import add_lora
from flowact.training.objective import Draws
from flowact.training.optimiser import make_optimisers
from flowact.training.settings import OptimiserConfig, TrainingPrecision
from flowact.training.window_loss import flow_matching
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import AutoregressiveConfig, LoraSettings, TasksConfig

ONLY_STREAM = TasksConfig(without_long_term=0, reference_alone=0, refinement=0)


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make, from then until nothing holds them.

    Attributes:
        now: bytes that live.
        peak: the most that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = {id(storage) for storage in _storages((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            # Else it is of a view, or was written in place.
            if id(storage) not in given and id(storage) not in self._seen:
                self._watch(storage)
        return made

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._seen.remove(key)
        self.now -= size


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [v.untyped_storage() for v in tree_leaves(values) if isinstance(v, Tensor)]


@dataclass(frozen=True)
class StepMemory:
    """What a step on one process holds.

    Attributes:
        parameters, gradients, optimiser, average: tensors that last from step to step; what is
            frozen has no average of its own.
        activations: bytes, the most that lives at once besides them while a micro-batch goes
            forward and back, copies of weights in lower precision included.
    """

    parameters: list[Tensor]
    gradients: list[Tensor]
    optimiser: list[Tensor]
    average: list[Tensor]
    activations: int


def build_network(model: ModelConfig, text_tokens: int, lora: LoraSettings) -> WindowModel:
    """An untrained network, whose prompts are embeddings of ``text_tokens`` if its own text encoder
    is frozen."""
    transformer = FlowActTransformer3DModel(**dataclasses.asdict(model.transformer))
    encoder: Any = _Embeddings(transformer, text_tokens)
    if model.text_encoder.kind is TextEncoderKind.byte_t5:
        encoder = build_text_encoder(model.text_encoder)
    network = WindowModel(transformer, encoder, model.geometry)
    if lora.rank is not None:
        add_lora(network, lora)
    network.train_adapter(model.transformer.audio_feature_dim is not None)
    return network


def make_windows(model: ModelConfig, micro_batch: int, text_tokens: int) -> Windows:
    """The largest windows there are: all memory, all chunks, and a caption for each of them."""
    geometry = model.geometry
    size = model.height // geometry.spatial_stride, model.width // geometry.spatial_stride
    latents, context = geometry.stream_latents, len(geometry.slots(geometry.long_term))

    def zeros(count: int) -> Tensor:
        return torch.zeros(micro_batch, model.transformer.out_channels, count, *size)

    def features(count: int) -> Tensor | None:
        dim = model.transformer.audio_feature_dim
        return None if dim is None else torch.zeros(micro_batch, count, geometry.latent_window, dim)

    # The demo's own encoder makes a token of so many bytes, of which the end is one. What is longer
    # it cuts, and all captions would be one.
    length = min(BYTES_PER_TOKEN * text_tokens - 1, model.text_encoder.max_bytes)
    captions = [f"{number:0>{length}}" for number in range(micro_batch * geometry.depth)]
    infos = tuple(
        WindowInfo(
            clip="",
            oldest=0,
            kind=Kind.CROSS_PROMPT,
            weight=1.0,
            captions=tuple(captions[sample::micro_batch]),
            memory_caption="",
            memory=(),
            reference=0,
            drop_text=False,
            drop_audio=False,
        )
        for sample in range(micro_batch)
    )
    return Windows(
        zeros(latents),
        zeros(context),
        zeros(1),
        features(latents),
        features(1),
        torch.ones(micro_batch, len(KINDS), *size),
        infos,
    )


def watch_step(
    network: WindowModel,
    windows: Windows,
    model: ModelConfig,
    precision: TrainingPrecision,
    optimiser: OptimiserConfig,
) -> StepMemory:
    """A micro-batch forward and back, when an earlier one has left its gradient, and a step."""
    trained = [p for p in network.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    config = AutoregressiveConfig(tasks=ONLY_STREAM)
    draws = Draws(0, "memory", 0, tuple(range(len(windows.infos))))
    with LiveBytes() as live:
        bf16 = precision is TrainingPrecision.bf16
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            total = flow_matching(network, windows, draws, model, config).total
        total.backward()
    optimisers = make_optimisers(network, optimiser)
    for one in optimisers:
        one.step()
    states = [state for one in optimisers for state in one.state.values()]
    return StepMemory(
        parameters=list(network.parameters()),
        gradients=[p.grad for p in trained if p.grad is not None],
        optimiser=[value for state in states for value in state.values()],
        average=list(trained),
        activations=live.peak,
    )


class _Embeddings(nn.Module):
    """Prompts as an encoder too large to train beside has left them, all of one length."""

    def __init__(self, transformer: FlowActTransformer3DModel, tokens: int) -> None:
        super().__init__()
        self._size = tokens, transformer.config.text_embed_dim

    def encode(self, texts: Sequence[str]) -> TextInputs:
        mask = torch.ones(len(texts), self._size[0], dtype=torch.bool)
        return TextInputs(torch.zeros(len(texts), *self._size), mask)
