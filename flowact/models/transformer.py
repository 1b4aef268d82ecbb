"""The backbone: an MMDiT with per-latent times and fake-causal attention (paper 2.1, 2.2)."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_hunyuan_video15 import (
    HunyuanVideo15ByT5TextProjection,
    HunyuanVideo15ImageProjection,
    HunyuanVideo15PatchEmbed,
    HunyuanVideo15TimeEmbedding,
    HunyuanVideo15TokenRefiner,
)
from einops import rearrange
from torch import Tensor, nn

from flowact.models.attention import KeyValue, LayerKind, TextKeyValue
from flowact.models.audio_adapter import AudioProjector
from flowact.models.blocks import FlowActBlock
from flowact.models.caches import ContextCache, PlacedContext, StreamInputs, TextCache
from flowact.models.rope import Rotary, rotary, rotate
from flowact.models.text_encoder import TextInputs

TIME_SCALE = 1000.0  # a noise level s in [0, 1] is the time input 1000 s (design 3)


class GuidanceEmbedding(nn.Module):
    """Text and audio guidance scales as an addition to the time embedding (paper 2.4).

    The last layers start at zero, so that a fresh embedding changes nothing.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = Timesteps(num_channels=256, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.text = TimestepEmbedding(in_channels=256, time_embed_dim=dim)
        self.audio = TimestepEmbedding(in_channels=256, time_embed_dim=dim)
        for embedding in (self.text, self.audio):
            nn.init.zeros_(embedding.linear_2.weight)
            nn.init.zeros_(embedding.linear_2.bias)

    def forward(self, scales: Tensor) -> Tensor:
        """Scales [B, 2] (text, audio) -> [B, dim]."""
        text, audio = (TIME_SCALE * scales.float()).unbind(1)
        dtype = self.text.linear_1.weight.dtype
        return self.text(self.proj(text).to(dtype)) + self.audio(self.proj(audio).to(dtype))


class FlowActTransformer3DModel(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """Velocity of every stream latent, given text, audio and a few finished latents.

    Parameter-compatible with diffusers' ``HunyuanVideo15Transformer3DModel``; with
    ``attention="full"``, ``text_level="same"``, one time for all and no audio it gives the same
    output. A call has three parts, each of which can be kept: ``encode_text`` (once a prompt),
    ``encode_context`` (once in a memory latent's life) and ``denoise`` (every call).

    Args:
        in_channels: noisy latent, condition latent and mask: 2 x latent channels + 1.
        out_channels: latent channels.
        activation: of the feed-forward; the base's is slow on a CPU, where ``gelu`` is not.
        text_embed_dim: size of the first text encoder's embeddings.
        text_embed_2_dim, image_embed_dim: those of the second text stream and of the image
            encoder; None leaves the stream out.
        layer_pattern: kinds of layer, repeated over the depth: full, spatial or temporal.
        temporal_windows: rows and columns of windows in a temporal layer.
        attention: ``fake_causal``, or ``full`` (the base model's; an ablation).
        context_attention: ``self`` (each context latent sees itself) or ``joint``.
        text_level: the time of text: ``zero`` (it is clean), or ``same`` as the video's.
        audio_feature_dim: size of an audio feature; None leaves the adapter out.
        audio_window, audio_tokens, audio_dim: features that condition a latent, tokens made of
            them, and their size.
        audio_every: an adapter in every k-th layer.
        guidance_embeds: take guidance scales as input (guidance distillation).

    Raises:
        ValueError: a setting is unknown or does not fit another.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("FlowActBlock", "HunyuanVideo15PatchEmbed", "HunyuanVideo15TokenRefiner")
    _repeated_blocks = ("FlowActBlock",)
    _skip_layerwise_casting_patterns = ("x_embedder", "context_embedder", "norm")

    @register_to_config
    def __init__(
        self,
        in_channels: int = 65,
        out_channels: int = 32,
        num_attention_heads: int = 16,
        attention_head_dim: int = 128,
        num_layers: int = 54,
        num_refiner_layers: int = 2,
        mlp_ratio: float = 4.0,
        activation: str = "gelu-approximate",
        patch_size: int = 1,
        text_embed_dim: int = 3584,
        text_embed_2_dim: int | None = 1472,
        image_embed_dim: int | None = 1152,
        rope_theta: float = 256.0,
        rope_axes_dim: tuple[int, int, int] = (16, 56, 56),
        layer_pattern: tuple[str, ...] = ("full",),
        temporal_windows: tuple[int, int] = (1, 1),
        attention: str = "fake_causal",
        context_attention: str = "self",
        text_level: str = "zero",
        audio_feature_dim: int | None = None,
        audio_window: int = 8,
        audio_tokens: int = 16,
        audio_dim: int = 768,
        audio_every: int = 1,
        guidance_embeds: bool = False,
    ) -> None:
        super().__init__()
        _one_of("attention", attention, ("fake_causal", "full"))
        _one_of("context_attention", context_attention, ("self", "joint"))
        _one_of("text_level", text_level, ("zero", "same"))
        if sum(rope_axes_dim) != attention_head_dim:
            raise ValueError(
                f"rope_axes_dim {tuple(rope_axes_dim)} sums to {sum(rope_axes_dim)}; it must sum "
                f"to attention_head_dim, {attention_head_dim}"
            )
        dim = num_attention_heads * attention_head_dim
        patch = (1, patch_size, patch_size)
        self.x_embedder = HunyuanVideo15PatchEmbed(patch, in_channels, dim)
        self.context_embedder = HunyuanVideo15TokenRefiner(
            text_embed_dim, num_attention_heads, attention_head_dim, num_layers=num_refiner_layers
        )
        if text_embed_2_dim is not None:
            self.context_embedder_2 = HunyuanVideo15ByT5TextProjection(text_embed_2_dim, 2048, dim)
        if image_embed_dim is not None:
            self.image_embedder = HunyuanVideo15ImageProjection(image_embed_dim, dim)
        self.time_embed = HunyuanVideo15TimeEmbedding(dim)
        self.cond_type_embed = nn.Embedding(3, dim)
        self.guidance_embed = GuidanceEmbedding(dim) if guidance_embeds else None
        self.audio_projector = None
        if audio_feature_dim is not None:
            self.audio_projector = AudioProjector(
                audio_feature_dim, audio_window, audio_tokens, audio_dim
            )
        self.transformer_blocks = nn.ModuleList(
            FlowActBlock(
                num_attention_heads,
                attention_head_dim,
                mlp_ratio,
                activation,
                _kind(layer_pattern[layer % len(layer_pattern)]),
                (temporal_windows[0], temporal_windows[1]),
                audio_dim if audio_feature_dim is not None and layer % audio_every == 0 else None,
            )
            for layer in range(num_layers)
        )
        self.norm_out = AdaLayerNormContinuous(dim, dim, elementwise_affine=False, eps=1e-6)
        self.proj_out = nn.Linear(dim, patch_size * patch_size * out_channels)
        self.gradient_checkpointing = False

    # --- the three parts of a call -------------------------------------------------------------

    def encode_text(self, text: TextInputs) -> TextCache:
        """A prompt through the text side of every layer; exact for as long as it is in force."""
        time = torch.zeros(len(text.embeds), device=text.embeds.device)
        tokens, mask = self._text_tokens(text, time)
        if self.config.attention == "full":
            return TextCache(tokens, mask, ())
        emb = nn.functional.silu(self._time(time))[:, None]
        layers: list[TextKeyValue | None] = []
        hidden = tokens
        for block in self._blocks:
            if block.has_text:
                hidden, own = self._run(block.run_text, hidden, emb, mask)
                layers.append(own)
            else:
                layers.append(None)
        return TextCache(tokens, mask, tuple(layers))

    def encode_context(self, latents: Tensor, positions: Tensor) -> ContextCache:
        """Finished latents [B, C, F, H, W] in slots ``positions`` [F], through every layer.

        Under ``context_attention="self"`` a latent's cache depends on its slot by rounding alone,
        and not on the others, so that caches made one by one can be joined and kept.
        """
        if self.config.attention == "full":
            return ContextCache(latents, ())
        _, cache = self._fake_causal_pass((latents, positions), None, None)
        return cache

    def place_context(self, context: ContextCache, positions: Tensor) -> PlacedContext:
        """Rotate the keys of ``context`` to its slots ``positions`` [F]."""
        angles = self._rotary(positions, context.latents.shape[-2:])
        layers = tuple(
            None if kv is None else KeyValue(rotate(kv.key, angles), kv.value)
            for kv in context.layers
        )
        return PlacedContext(context.latents, positions, layers)

    def denoise(
        self,
        latents: Tensor,
        levels: Tensor,
        positions: Tensor,
        texts: Sequence[TextCache],
        text_of_latent: Sequence[int],
        context: PlacedContext | None,
        audio: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Velocity of the stream.

        Args:
            latents: stream latents [B, C, F, H, W].
            levels: their noise levels in [0, 1], [B, F].
            positions: their slots, [F], non-negative.
            texts: the prompts in the stream.
            text_of_latent: for each latent, the index of its prompt in ``texts``.
            context: reference and memory in their slots; None if there is no context.
            audio: features around each latent, [B, F, audio_window, audio_feature_dim]; zero
                features are null audio. None skips the adapter.
            guidance: text and audio scales [B, 2], for a model with ``guidance_embeds``.

        Returns:
            Velocity [B, C, F, H, W].
        """
        stream = StreamInputs(latents, levels, positions, texts, text_of_latent, audio, guidance)
        if self.config.attention == "full":
            return self._denoise_full(stream, context)
        velocity, _ = self._fake_causal_pass(None, context, stream)
        return velocity

    def encode_and_denoise(
        self,
        new: tuple[Tensor, Tensor],
        latents: Tensor,
        levels: Tensor,
        positions: Tensor,
        texts: Sequence[TextCache],
        text_of_latent: Sequence[int],
        context: PlacedContext | None,
        audio: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> tuple[Tensor, ContextCache]:
        """``encode_context`` of ``new`` latents and ``denoise`` under them too, in one pass.

        Args:
            new: context latents that have no cache yet and their slots, [B, C, F, H, W] and [F].
            latents, levels, positions, texts, text_of_latent, context, audio, guidance: as for
                ``denoise``.

        Returns:
            The velocity, and the cache of the new latents.
        """
        stream = StreamInputs(latents, levels, positions, texts, text_of_latent, audio, guidance)
        if self.config.attention == "full":
            cache = ContextCache(new[0], ())
            every = self.place_context(cache, new[1]).after(context)
            return self._denoise_full(stream, every), cache
        return self._fake_causal_pass(new, context, stream)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        text: TextInputs,
        audio: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """The base model's call: every latent noisy, every token seeing every other.

        Args:
            hidden_states: noisy latents, condition latents and mask, [B, in_channels, F, H, W].
            timestep: 1000 x noise level, [B], or [B, F] under ``text_level="zero"``.
            text: the prompt.
            audio, guidance: as for ``denoise``.

        Returns:
            Velocity [B, C, F, H, W].
        """
        same = self.config.text_level == "same"
        text_time = (
            timestep
            if same
            else torch.zeros_like(timestep[:, 0] if timestep.ndim == 2 else timestep)
        )
        tokens, mask = self._text_tokens(text, text_time)
        positions = torch.arange(hidden_states.shape[2], device=hidden_states.device)
        time = timestep if timestep.ndim == 2 else timestep[:, None].expand(-1, len(positions))
        return self._joint_pass(
            hidden_states, time, positions, tokens, mask, text_time, audio, guidance
        )

    # --- passes through the layers ----------------------------------------------------------------

    def _fake_causal_pass(
        self,
        new: tuple[Tensor, Tensor] | None,
        kept: PlacedContext | None,
        stream: StreamInputs | None,
    ) -> tuple[Tensor, ContextCache]:
        """New context latents and the stream through the layers; at least one of them is there.

        The velocity is of the stream alone, [B, C, 0, H, W] without one.
        """
        packed, time, positions = [], [], []
        count = 0
        if new is not None:
            latents, slots = new
            count = latents.shape[2]
            packed.append(self._pack(latents, context=True))
            time.append(latents.new_zeros((len(latents), count), dtype=torch.float32))
            positions.append(slots)
        if stream is not None:
            packed.append(self._pack(stream.latents, context=False))
            time.append(TIME_SCALE * stream.levels)
            positions.append(stream.positions)
        x = self._tokens(torch.cat(packed, dim=2))
        size = self._grid(packed[0].shape[-2:])
        angles = self._rotary(torch.cat(positions), packed[0].shape[-2:])
        emb = self._video_time(
            torch.cat(time, dim=1), None if stream is None else stream.guidance, count
        )
        texts, where = ((), ()) if stream is None else (stream.texts, stream.text_of_latent)
        heard = None if stream is None else self._audio_tokens(stream.audio)
        joint = self.config.context_attention == "joint"
        left: list[KeyValue | None] = []
        for layer, block in enumerate(self._blocks):
            own_texts = [text.layers[layer] for text in texts] if block.has_text else []
            own_kept = None if kept is None else kept.layers[layer]
            x, own = self._run(
                block.run_video,
                x, emb, angles, size, count, joint, own_kept, own_texts, where, heard,
            )  # fmt: skip
            left.append(None if block.kind is LayerKind.SPATIAL else own)
        velocity = self._velocity(x[:, count:], emb[:, count:], size)
        new_latents = velocity[:, :, :0] if new is None else new[0]
        return velocity, ContextCache(new_latents, tuple(left))

    def _joint_pass(
        self,
        packed: Tensor,
        time: Tensor,
        positions: Tensor,
        text: Tensor,
        mask: Tensor | None,
        text_time: Tensor,
        audio: Tensor | None,
        guidance: Tensor | None,
    ) -> Tensor:
        size = self._grid(packed.shape[-2:])
        angles = self._rotary(positions, packed.shape[-2:])
        emb = self._video_time(time, guidance)
        text_emb = nn.functional.silu(self._time(text_time))[:, None]
        heard = self._audio_tokens(audio)
        x = self._tokens(packed)
        one_text = [0] * len(positions)
        for block in self._blocks:
            if block.kind is LayerKind.FULL:
                x, text = self._run(block, x, text, emb, text_emb, mask, angles, heard)
                continue
            own: list[TextKeyValue] = []
            if block.has_text:
                text, kept = self._run(block.run_text, text, text_emb, mask)
                own.append(kept)
            x, _ = self._run(
                block.run_video, x, emb, angles, size, 0, False, None, own, one_text, heard
            )
        return self._velocity(x, emb, size)

    def _denoise_full(self, stream: StreamInputs, context: PlacedContext | None) -> Tensor:
        """The ablation without fake-causal attention: one sequence of context, stream and text."""
        packed, time = self._pack(stream.latents, context=False), TIME_SCALE * stream.levels
        positions, audio, before = stream.positions, stream.audio, 0
        if context is not None:
            before = context.latents.shape[2]
            packed = torch.cat((self._pack(context.latents, context=True), packed), dim=2)
            time = nn.functional.pad(time, (before, 0))
            positions = torch.cat((context.positions, positions))
            if audio is not None:
                audio = nn.functional.pad(audio, (0, 0, 0, 0, before, 0))
        tokens = torch.cat([text.tokens for text in stream.texts], dim=1)
        masks = [text.real for text in stream.texts]
        mask = None if all(text.mask is None for text in stream.texts) else torch.cat(masks, dim=1)
        text_time = torch.zeros_like(time[:, 0])
        out = self._joint_pass(
            packed, time, positions, tokens, mask, text_time, audio, stream.guidance
        )
        return out[:, :, before:]

    # --- pieces -----------------------------------------------------------------------------------

    @property
    def _blocks(self) -> list[FlowActBlock]:
        return cast(list[FlowActBlock], list(self.transformer_blocks))

    def _pack(self, latents: Tensor, context: bool) -> Tensor:
        """Input channels: a context latent is its own condition, the stream has none."""
        mask = torch.full_like(latents[:, :1], float(context))
        return torch.cat((latents, latents if context else torch.zeros_like(latents), mask), dim=1)

    def _tokens(self, packed: Tensor) -> Tensor:
        """[B, in_channels, F, H, W] -> [B, F, N, dim]."""
        return self.x_embedder(packed).unflatten(1, (packed.shape[2], -1))

    def _time(self, time: Tensor) -> Tensor:
        """Time [...] -> embedding [..., dim]; sinusoids in float32 whatever the weights are."""
        embed = self.time_embed
        dtype = embed.timestep_embedder.linear_1.weight.dtype
        return embed.timestep_embedder(embed.time_proj(time.flatten().float()).to(dtype)).unflatten(
            0, time.shape
        )

    def _video_time(self, time: Tensor, guidance: Tensor | None, context: int = 0) -> Tensor:
        """SiLU of the time embedding, [B, F, 1, dim], from times [B, F].

        Guidance is added to it, but not for the first ``context`` latents.
        """
        emb = self._time(time)
        if guidance is not None:
            if self.guidance_embed is None:
                raise ValueError("guidance scales were given to a model without guidance_embeds")
            added = self.guidance_embed(guidance)[:, None].expand(-1, emb.shape[1] - context, -1)
            emb = emb + nn.functional.pad(added, (0, 0, context, 0))
        return nn.functional.silu(emb)[:, :, None]

    def _audio_tokens(self, audio: Tensor | None) -> Tensor | None:
        if audio is None or self.audio_projector is None:
            return None
        return self.audio_projector(audio)

    def _grid(self, size: torch.Size) -> tuple[int, int]:
        patch = self.config.patch_size
        return size[0] // patch, size[1] // patch

    def _rotary(self, positions: Tensor, size: torch.Size) -> Rotary:
        config = self.config
        return rotary(positions, self._grid(size), config.rope_axes_dim, config.rope_theta)

    def _velocity(self, x: Tensor, emb: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens [B, F, N, dim] -> velocity [B, C, F, H, W]."""
        scale, shift = self.norm_out.linear(emb).chunk(2, dim=-1)
        x = self.proj_out(self.norm_out.norm(x) * (1 + scale) + shift)
        patch = self.config.patch_size
        return rearrange(
            x,
            "b f (h w) (c p q) -> b c f (h p) (w q)",
            h=size[0], w=size[1], p=patch, q=patch,
        )  # fmt: skip

    def _text_tokens(self, text: TextInputs, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Image, second text and first text, in the base's order, padding dropped: [B, L, dim]."""
        tokens = self.context_embedder(text.embeds, time, text.mask)
        parts = [(tokens + self.cond_type_embed.weight[0], text.mask)]
        has_second = self.config.text_embed_2_dim is not None
        if has_second and text.embeds_2 is not None and text.mask_2 is not None:
            second = self.context_embedder_2(text.embeds_2) + self.cond_type_embed.weight[1]
            parts.insert(0, (second, text.mask_2))
        if self.config.image_embed_dim is not None and text.image_embeds is not None:
            image = self.image_embedder(text.image_embeds) + self.cond_type_embed.weight[2]
            # An all-zero embedding means "no image" (the base decides so for a whole batch).
            there = (text.image_embeds != 0).any(dim=(1, 2), keepdim=False)
            parts.insert(0, (image, there[:, None].expand(image.shape[:2])))
        return _drop_padding(
            torch.cat([part for part, _ in parts], dim=1),
            torch.cat([mask.bool() for _, mask in parts], dim=1),
        )

    def _run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(function, *inputs)
        return function(*inputs)


def _drop_padding(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Real tokens first, cut to the longest sample; no mask if that leaves no padding."""
    if bool(mask.all()):
        return tokens, None
    lengths = mask.sum(dim=1)
    order = mask.int().argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())]
    tokens = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
    mask = mask.gather(1, order)
    return tokens, None if bool(mask.all()) else mask


def _kind(name: str) -> LayerKind:
    _one_of("layer_pattern", name, tuple(kind.value for kind in LayerKind))
    return LayerKind(name)


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{key} is {value!r}; it must be one of {', '.join(choices)}")
