"""The backbone: an MMDiT with per-latent times and fake-causal attention (paper 2.1, 2.2)."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
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

from flowact.models.attention import KeyValue, TextKeyValue
from flowact.models.attention_backends import check_backend
from flowact.models.audio_adapter import AudioCrossAttention, AudioProjector
from flowact.models.blocks import FlowActBlock, VideoSequence
from flowact.models.caches import ContextCache, PlacedContext, StreamInputs, TextCache
from flowact.models.embeddings import TIME_SCALE, GuidanceEmbedding, drop_padding
from flowact.models.fixed_levels import FixedLevels, tabulate
from flowact.models.rope import rotary, rotate
from flowact.models.share import Place, Share
from flowact.models.text_encoder import TextInputs
from flowact.settings import AttentionBackend, LayerKind, Quantize, TransformerConfig

# A velocity is a difference over its level; nearer to 0 it would hold the layers' errors alone.
LEAST_LEVEL = 0.05


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
        predicts: what the layers give: the ``velocity``, as in the base, or the ``clean`` latent,
            from which the velocity follows (Li and He, arXiv 2511.13720). Where a token has many
            numbers for the layers' channels, they cannot carry its noise, which a velocity is made
            of, and what they do not take away stays in the picture.
        reference_below: each cell of the stream is told what the reference has in its place, so
            that what does not move need not be found by attention, whose places small models
            confuse.

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
        predicts: str = "velocity",
        reference_below: bool = False,
    ) -> None:
        super().__init__()
        names = (f.name for f in dataclasses.fields(TransformerConfig))
        TransformerConfig(**{name: self.config[name] for name in names})  # its rules are ours
        dim = num_attention_heads * attention_head_dim
        patch = (1, patch_size, patch_size)
        self.x_embedder = HunyuanVideo15PatchEmbed(patch, in_channels, dim)
        self.reference_embedder = None
        if reference_below:
            self.reference_embedder = HunyuanVideo15PatchEmbed(patch, out_channels, dim)
            nn.init.zeros_(self.reference_embedder.proj.weight)
            nn.init.zeros_(self.reference_embedder.proj.bias)
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
                LayerKind(layer_pattern[layer % len(layer_pattern)]),
                (temporal_windows[0], temporal_windows[1]),
                audio_dim if audio_feature_dim is not None and layer % audio_every == 0 else None,
            )
            for layer in range(num_layers)
        )
        self.norm_out = AdaLayerNormContinuous(dim, dim, elementwise_affine=False, eps=1e-6)
        self.proj_out = nn.Linear(dim, patch_size * patch_size * out_channels)
        self.gradient_checkpointing = False
        self.share_of: Callable[[Place], Share] = Share
        self.fixed: FixedLevels | None = None
        self.quantised = Quantize.none

    @torch.no_grad()
    def fix_levels(self, levels: Sequence[float], scales: tuple[float, float] | None) -> None:
        """Compute modulation once, for streams at ``levels``, and drop the weights that made it.

        Args:
            levels: all that the stream will be at.
            scales: of text and audio, for a model with ``guidance_embeds``.

        Raises:
            ValueError: they are fixed already, or LoRA's updates are not merged yet.
        """
        self._check_whole()
        fixed = FixedLevels(levels, scales).to(self.device)
        time = nn.functional.pad(fixed.times, (1, 0))[None]  # clean, then the levels
        guidance = None if scales is None else time.new_tensor([scales])
        rows = self._video_time(time, guidance, context=1)[0, :, 0]
        blocks = (module for block in self.transformer_blocks for module in block.modules())
        tabulate(itertools.chain(blocks, [self.norm_out]), rows)
        self.fixed = fixed

    def set_attention_backend(self, backend: str) -> None:
        """Have attention computed by another kernel of ``AttentionBackend``, by its name.

        The layers and the audio adapter have it, without global state; the refiner of text, which
        needs masks, does not. To be called where the model is to run, and in its precision.

        Raises:
            ValueError: it is unknown, or cannot be used here.
        """
        if backend not in AttentionBackend.__members__:
            known = ", ".join(AttentionBackend.__members__)
            raise ValueError(f"attention={backend} is unknown; give one of {known}")
        kernel = AttentionBackend[backend]
        heads, head_dim = self.config.num_attention_heads, self.config.attention_head_dim
        check_backend(kernel, heads, head_dim, self.device, self.dtype)
        for module in self.modules():
            if isinstance(module, FlowActBlock | AudioCrossAttention):
                module.backend = kernel

    # --- the three parts of a call -------------------------------------------------------------

    def encode_text(self, text: TextInputs) -> TextCache:
        """A prompt through the text side of every layer; exact for as long as it is in force."""
        time = torch.zeros(len(text.embeds), device=text.embeds.device)
        tokens, mask = self._text_tokens(text, time)
        if self.config.attention == "full":
            return TextCache(tokens, mask, ())
        emb = self._text_time(time)
        layers: list[TextKeyValue | None] = []
        hidden = tokens
        for block in self.blocks:
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
        _, layers = self._fake_causal_layers(
            self._sequence((latents, positions), None), None, (), ()
        )
        return ContextCache(latents, layers)

    def place_context(self, context: ContextCache, positions: Tensor) -> PlacedContext:
        """Rotate the keys of ``context`` to its slots ``positions`` [F]."""
        patch, (height, width) = self.config.patch_size, context.latents.shape[-2:]
        turns = self._rotary(positions, (height // patch, width // patch))
        layers = tuple(
            None if kv is None else KeyValue(rotate(kv.key, turns), kv.value)
            for kv in context.layers
        )
        return PlacedContext(context.latents, positions, layers)

    def denoise(self, stream: StreamInputs, context: PlacedContext | None) -> Tensor:
        """Velocity [B, C, F, H, W] of the stream, under reference and memory in their slots.

        Under ``attention="full"`` every latent sees every prompt of the stream.
        """
        if self.config.attention == "full":
            return self._denoise_full(stream, context)
        sequence = self._sequence(None, stream)
        x, _ = self._fake_causal_layers(sequence, context, stream.texts, stream.text_of_latent)
        return self._velocity(self._output(x, sequence), stream.latents, stream.levels)

    def encode_and_denoise(
        self, new: tuple[Tensor, Tensor], stream: StreamInputs, context: PlacedContext | None
    ) -> tuple[Tensor, ContextCache]:
        """``encode_context`` of new latents, and ``denoise`` under them too, in one pass.

        Args:
            new: context latents that have no cache yet [B, C, F, H, W], and their slots [F].
            stream, context: as for ``denoise``. Under ``context_attention="joint"`` all context is
                new, since latents of two passes have not seen one another.

        Returns:
            The velocity, and the cache of the new latents.
        """
        if self.config.attention == "full":
            cache = self.encode_context(*new)
            return self._denoise_full(
                stream, self.place_context(cache, new[1]).after(context)
            ), cache
        sequence = self._sequence(new, stream)
        x, layers = self._fake_causal_layers(sequence, context, stream.texts, stream.text_of_latent)
        velocity = self._velocity(self._output(x, sequence), stream.latents, stream.levels)
        return velocity, ContextCache(new[0], layers)

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
            timestep: 1000 x noise level, [B] or [B, F]; under ``text_level="same"`` it is the time
                of text too, and [B].
            text: the prompt.
            audio, guidance: as in ``StreamInputs``.

        Returns:
            Velocity [B, C, F, H, W].

        Raises:
            ValueError: the levels are fixed, to those of a stream.
        """
        self._check_whole()
        positions = torch.arange(hidden_states.shape[2], device=hidden_states.device)
        time = timestep if timestep.ndim == 2 else timestep[:, None].expand(-1, len(positions))
        sequence = self._embedded(hidden_states, time, positions, 0, audio, guidance, None)
        same = self.config.text_level == "same"
        text_time = timestep if same else timestep.new_zeros(len(timestep))
        tokens, mask = self._text_tokens(text, text_time)
        output = self._output(self._joint_layers(sequence, tokens, mask, text_time), sequence)
        noisy = hidden_states[:, : self.config.out_channels]
        return self._velocity(output, noisy, time / TIME_SCALE)

    # --- through the layers -----------------------------------------------------------------------

    def _fake_causal_layers(
        self,
        sequence: VideoSequence,
        kept: PlacedContext | None,
        texts: Sequence[TextCache],
        text_of_latent: Sequence[int],
    ) -> tuple[Tensor, tuple[KeyValue | None, ...]]:
        """Tokens after the last layer, and what the context among them leaves in each."""
        x = sequence.x
        text_of_latent = text_of_latent[sequence.share.streamed]
        joint = self.config.context_attention == "joint"
        left: list[KeyValue | None] = []
        for layer, block in enumerate(self.blocks):
            own_kept = None if kept is None else kept.layers[layer]
            own_texts = [text.layers[layer] for text in texts] if block.has_text else []
            x, own = self._run(
                block.run_video,
                sequence._replace(x=x),
                joint,
                own_kept,
                own_texts,
                text_of_latent,
            )
            left.append(None if block.kind is LayerKind.SPATIAL else own)
        return x, tuple(left)

    def _joint_layers(
        self, sequence: VideoSequence, text: Tensor, mask: Tensor | None, text_time: Tensor
    ) -> Tensor:
        """Tokens after the last layer, where they have seen the text and each other."""
        x = sequence.x
        text_emb = self._text_time(text_time)
        one_text = [0] * x.shape[1]
        for block in self.blocks:
            if block.kind is LayerKind.FULL:
                x, text = self._run(block, sequence._replace(x=x), text, text_emb, mask)
                continue
            own: list[TextKeyValue] = []
            if block.has_text:
                text, kept = self._run(block.run_text, text, text_emb, mask)
                own.append(kept)
            alike = sequence._replace(x=x, share=Share(sequence.share.place._replace(context=0)))
            x, _ = self._run(block.run_video, alike, False, None, own, one_text)
        return x

    def _denoise_full(self, stream: StreamInputs, context: PlacedContext | None) -> Tensor:
        """The ablation without fake-causal attention: one sequence of context, stream and text."""
        new = None if context is None else (context.latents, context.positions)
        sequence = self._sequence(new, stream)
        tokens = torch.cat([text.tokens for text in stream.texts], dim=1)
        masks = [text.real for text in stream.texts]
        mask = None if all(text.mask is None for text in stream.texts) else torch.cat(masks, dim=1)
        text_time = torch.zeros_like(stream.levels[:, 0])
        output = self._output(self._joint_layers(sequence, tokens, mask, text_time), sequence)
        return self._velocity(output, stream.latents, stream.levels)

    # --- before and after them --------------------------------------------------------------------

    def _sequence(
        self, new: tuple[Tensor, Tensor] | None, stream: StreamInputs | None
    ) -> VideoSequence:
        """Context latents with their slots, then the stream; either may be missing."""
        packed, time, positions, context = [], [], [], 0
        if new is not None:
            latents, slots = new
            context = latents.shape[2]
            packed.append(self._pack(latents, context=True))
            time.append(latents.new_zeros((len(latents), context), dtype=torch.float32))
            positions.append(slots)
        if stream is not None:
            packed.append(self._pack(stream.latents, context=False))
            time.append(TIME_SCALE * stream.levels)
            positions.append(stream.positions)
        return self._embedded(
            torch.cat(packed, dim=2),
            torch.cat(time, dim=1),
            torch.cat(positions),
            context,
            None if stream is None else stream.audio,
            None if stream is None else stream.guidance,
            None if stream is None else stream.reference,
        )

    def _embedded(
        self,
        packed: Tensor,
        time: Tensor,
        positions: Tensor,
        context: int,
        audio: Tensor | None,
        guidance: Tensor | None,
        reference: Tensor | None,
    ) -> VideoSequence:
        """Channels [B, in_channels, F, H, W] and times [B, F] as tokens of the first layer."""
        patch = self.config.patch_size
        rows, columns = packed.shape[-2] // patch, packed.shape[-1] // patch
        share = self.share_of(Place(self._rotary(positions, (rows, columns)), context))
        audio_tokens = None
        if audio is not None and self.audio_projector is not None:
            audio_tokens = self.audio_projector(audio)[:, share.streamed]
        tokens = self.x_embedder(packed).unflatten(1, (packed.shape[2], -1))
        if reference is not None and self.reference_embedder is not None:
            told = tokens[:, context:] + self.reference_embedder(reference)[:, None]
            tokens = torch.cat((tokens[:, :context], told), dim=1)
        return VideoSequence(
            share.tokens(tokens),
            share.latents(self._video_time(time, guidance, context)),
            (rows, columns),
            audio_tokens,
            share,
        )

    def _output(self, x: Tensor, sequence: VideoSequence) -> Tensor:
        """Tokens [B, F, N, dim] -> [B, C, F, H, W] of the stream among them."""
        share = sequence.share
        x, emb = x[:, share.context :], sequence.emb[:, share.context :]
        scale, shift = self.norm_out.linear(emb).chunk(2, dim=-1)
        x = share.join(self.proj_out(self.norm_out.norm(x) * (1 + scale) + shift))
        (rows, _), patch = sequence.size, self.config.patch_size
        return rearrange(x, "b f (h w) (c p q) -> b c f (h p) (w q)", h=rows, p=patch, q=patch)

    def _velocity(self, output: Tensor, noisy: Tensor, levels: Tensor) -> Tensor:
        """What the layers' output says of latents [B, C, F, H, W] at levels [B, F]."""
        if self.config.predicts == "velocity":
            return output
        level = levels.clamp(min=LEAST_LEVEL)[:, None, :, None, None]
        return (noisy.float() - output.float()) / level

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As diffusers does it, unless weights have been dropped or rounded."""
        self._check_whole()
        self.check_exact()
        super().save_pretrained(*args, **kwargs)

    def _check_whole(self) -> None:
        if self.fixed is not None:
            raise ValueError(
                "the model's levels are fixed to those of a stream, weights dropped; load it anew"
            )

    def check_exact(self) -> None:
        """Whether the weights are numbers of one precision.

        Raises:
            ValueError: some are quantised.
        """
        if self.quantised is not Quantize.none:
            raise ValueError(
                f"the model's weights are quantised to {self.quantised.name}; load it anew with "
                "quantize=none"
            )

    @property
    def is_shared(self) -> bool:
        """Whether other processes run a part of each call."""
        return self.share_of is not Share

    @property
    def blocks(self) -> list[FlowActBlock]:
        return cast(list[FlowActBlock], list(self.transformer_blocks))

    def _pack(self, latents: Tensor, context: bool) -> Tensor:
        """Input channels: a context latent is its own condition, the stream has none."""
        mask = torch.full_like(latents[:, :1], float(context))
        return torch.cat((latents, latents if context else torch.zeros_like(latents), mask), dim=1)

    def _time(self, time: Tensor) -> Tensor:
        """Time [...] -> embedding [..., dim]; sinusoids in float32 whatever the weights are."""
        embed = self.time_embed
        dtype = embed.timestep_embedder.linear_1.weight.dtype
        return embed.timestep_embedder(embed.time_proj(time.flatten().float()).to(dtype)).unflatten(
            0, time.shape
        )

    def _video_time(self, time: Tensor, guidance: Tensor | None, context: int) -> Tensor:
        """SiLU of the embedding of times [B, F], as [B, F, 1, dim]; or the rows of fixed levels.

        Guidance is added to it, but not for the first ``context`` latents.
        """
        if self.fixed is not None:
            return self.fixed.rows(time, context)
        emb = self._time(time)
        is_stream = emb.shape[1] > context
        if is_stream and (guidance is None) is not (self.guidance_embed is None):
            raise ValueError(
                "guidance scales go with a model that has guidance_embeds, and only so"
            )
        if guidance is not None and self.guidance_embed is not None:
            added = self.guidance_embed(guidance)[:, None].expand(-1, emb.shape[1] - context, -1)
            emb = emb + nn.functional.pad(added, (0, 0, context, 0))
        return nn.functional.silu(emb)[:, :, None]

    def _text_time(self, time: Tensor) -> Tensor:
        """The same of text at ``time`` [B], [B, 1, dim]."""
        if self.fixed is not None:
            return self.fixed.clean(time)
        return nn.functional.silu(self._time(time))[:, None]

    def _rotary(self, positions: Tensor, size: tuple[int, int]) -> Tensor:
        return rotary(positions, size, self.config.rope_axes_dim, self.config.rope_theta)

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
            there = (text.image_embeds != 0).any(dim=(1, 2))
            parts.insert(0, (image, there[:, None].expand(image.shape[:2])))
        return drop_padding(
            torch.cat([part for part, _ in parts], dim=1),
            torch.cat([mask.bool() for _, mask in parts], dim=1),
        )

    def _run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(function, *inputs)
        return function(*inputs)
