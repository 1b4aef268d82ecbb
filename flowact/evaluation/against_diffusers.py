"""The backbone's speed against diffusers' model of the same size, in ticks and training steps."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

import diffusers
import torch

from flowact.geometry import Geometry
from flowact.models.embeddings import TIME_SCALE
from flowact.models.text_encoder import ByteT5TextEncoder, TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.settings import ModelConfig
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.state import Conditions
from flowact.training.window_model import Buffer, WindowModel

TEXT_TOKENS = 24
BATCH = 4  # of a training step
WARM_UP = 2


def compare_tick(
    model: ModelConfig, dtype: torch.dtype, device: torch.device, pairs: int
) -> dict[str, float]:
    """One steady tick against diffusers' model on the same latents, in turn; medians in seconds.

    Both have the same width, depth and tokens; ours without its audio adapter, its text and
    context kept from earlier ticks as in any stream. Both are uncompiled and untrained.
    """
    base, flowact = _models(model, dtype, device)
    with torch.inference_mode(), device:
        tick = steady_tick(flowact, model, TEXT_TOKENS)
        call = _base_call(base, model, batch=1)
        return _in_turn(tick, call, device, pairs)


def compare_step(model: ModelConfig, device: torch.device, pairs: int) -> dict[str, float]:
    """Forward and backward of a training step against diffusers' model, as ``compare_tick``.

    In float32, on windows with all memory and one prompt each; ours without its audio adapter, but
    with its text encoder, where diffusers' model is given embeddings.
    """
    base, flowact = _models(model, torch.float32, device)
    settings = model.text_encoder
    encoder = ByteT5TextEncoder.from_sizes(
        flowact.config.text_embed_dim, settings.layers, settings.heads, settings.max_bytes
    )
    network = WindowModel(flowact, encoder, model.geometry).to(device)
    with device:
        buffer = _buffer(model)
        call = _base_call(base, model, BATCH)

    def step() -> None:
        network(buffer).square().mean().backward()
        network.zero_grad()

    def base_step() -> None:
        call().square().mean().backward()
        base.zero_grad()

    return _in_turn(step, base_step, device, pairs)


def _models(
    model: ModelConfig, dtype: torch.dtype, device: torch.device
) -> tuple[diffusers.HunyuanVideo15Transformer3DModel, FlowActTransformer3DModel]:
    """Diffusers' and ours, of the width and depth of a preset."""
    ours = dataclasses.replace(model.transformer, audio_feature_dim=None)
    names = {f.name for f in dataclasses.fields(ours)}
    base_names = set(
        diffusers.HunyuanVideo15Transformer3DModel.__init__.__wrapped__.__annotations__
    )
    shared = {k: getattr(ours, k) for k in names & base_names}
    shared |= {"text_embed_2_dim": 16, "image_embed_dim": 16}
    base = diffusers.HunyuanVideo15Transformer3DModel(**shared).eval()
    flowact = FlowActTransformer3DModel(**dataclasses.asdict(ours)).eval()
    for module in (base, flowact):
        torch.nn.Module.to(module, device, dtype)
    return base, flowact


def _in_turn(
    ours: Callable[[], object], theirs: Callable[[], object], device: torch.device, pairs: int
) -> dict[str, float]:
    """Medians in seconds, and their ratio; the first few do not count."""
    times: dict[str, list[float]] = {"flowact": [], "diffusers": []}
    work: Mapping[str, Callable[[], object]] = {"flowact": ours, "diffusers": theirs}
    for _ in range(WARM_UP + pairs):
        for name, function in work.items():
            begun = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - begun)
    medians = {f"{name}_s": statistics.median(taken[WARM_UP:]) for name, taken in times.items()}
    return medians | {"times_as_fast": medians["diffusers_s"] / medians["flowact_s"]}


def _buffer(model: ModelConfig) -> Buffer:
    """Noise, under a prompt of its own for each sample."""
    geometry: Geometry = model.geometry
    channels, size = model.transformer.out_channels, model.latent_size
    latents = geometry.stream_latents
    context = geometry.slots(geometry.long_term)
    prompts = [f"{sample:0>{TEXT_TOKENS - 1}}" for sample in range(BATCH)]  # and the end token
    return Buffer(
        latents=torch.randn(BATCH, channels, latents, *size),
        levels=torch.rand(BATCH, latents),
        slots=geometry.stream_slots(geometry.depth),
        context=torch.randn(BATCH, channels, len(context), *size),
        context_slots=context,
        captions=tuple((prompt,) * latents for prompt in prompts),
        audio=None,
    )


def steady_tick(
    transformer: FlowActTransformer3DModel, model: ModelConfig, text_tokens: int
) -> Callable[[], None]:
    """A function that runs the next tick of a stream whose queue and memory are full.

    All chunks have one prompt of ``text_tokens`` tokens; what is heard is null.
    """
    sampler = StreamSampler(transformer, model.geometry, model.stream)
    geometry, config = model.geometry, transformer.config
    embeds = torch.randn(1, text_tokens, config.text_embed_dim, dtype=transformer.dtype)
    mask = torch.ones(1, text_tokens, dtype=torch.bool)
    text = transformer.encode_text(TextInputs(embeds, mask))
    audio = None
    if config.audio_feature_dim is not None:
        audio = torch.zeros(
            1, geometry.chunk_latents, config.audio_window, config.audio_feature_dim
        )
    latent = torch.randn(1, config.out_channels, 1, *model.latent_size)
    state = sampler.start(latent, (0,))

    def tick() -> None:
        nonlocal state
        texts = (text,) * min(len(state.queue) + 1, geometry.depth)
        state = sampler.tick(state, Conditions(texts, audio, text)).state

    for _ in range(geometry.depth + geometry.long_term * model.stream.long_term_stride):
        tick()
    return tick


def _base_call(
    base: diffusers.HunyuanVideo15Transformer3DModel, model: ModelConfig, batch: int
) -> Callable[[], torch.Tensor]:
    """A function that runs diffusers' model once on buffers of as many tokens."""
    config, dtype = base.config, next(base.parameters()).dtype
    latents = model.geometry.buffer_latents
    x = torch.randn(batch, config.in_channels, latents, *model.latent_size, dtype=dtype)
    time_ = torch.full((batch,), TIME_SCALE / 2, dtype=dtype)
    # The two streams that our presets may leave out get one token each of the same text length.
    text = torch.randn(batch, TEXT_TOKENS - 2, config.text_embed_dim, dtype=dtype)
    second = torch.randn(batch, 1, config.text_embed_2_dim, dtype=dtype)
    image = torch.randn(batch, 1, config.image_embed_dim, dtype=dtype)
    masks = torch.ones(batch, TEXT_TOKENS - 2), torch.ones(batch, 1)

    def call() -> torch.Tensor:
        velocity: torch.Tensor = base(
            x, time_, text, masks[0], None, second, masks[1], image, return_dict=False
        )[0]
        return velocity

    return call
