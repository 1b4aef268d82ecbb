"""The backbone and its text encoder as training calls them: one ``forward`` on a buffer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from flowact.diffusion import flow
from flowact.geometry import Geometry
from flowact.models.blocks import FlowActBlock
from flowact.models.caches import StreamInputs, TextCache
from flowact.models.text_encoder import ByteT5TextEncoder
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.training.cached_text import CachedText


@dataclass(frozen=True)
class Buffer:
    """A batch of buffers of one shape, as a call of the stream holds them.

    Attributes:
        latents: to be denoised, [B, C, F, H, W].
        levels: their noise levels, [B, F]; zero while they are clean.
        slots: of these latents.
        context: the reference, then memory, [B, C, S, H, W].
        context_slots: theirs.
        captions: of each latent, F for each sample.
        audio: features of each latent, [B, F, window, D]; None skips the adapter.
        guidance: text and audio scales [B, 2], for a model with ``guidance_embeds``.
    """

    latents: Tensor
    levels: Tensor
    slots: tuple[int, ...]
    context: Tensor
    context_slots: tuple[int, ...]
    captions: tuple[tuple[str, ...], ...]
    audio: Tensor | None
    guidance: Tensor | None = None

    def unconditional(self) -> "Buffer":
        """The same without text and audio."""
        return replace(self.unheard(), captions=tuple(("",) * len(c) for c in self.captions))

    def unheard(self) -> "Buffer":
        """The same without audio."""
        return replace(self, audio=None if self.audio is None else torch.zeros_like(self.audio))

    def noised(self, noise: Tensor, levels: Tensor) -> "Buffer":
        """A clean buffer with its latents at ``levels`` [B, F] on their way to ``noise``."""
        latents = flow.add_noise(self.latents, noise, flow.expand(levels))
        return replace(self, latents=latents, levels=levels)


class WindowModel(nn.Module):
    """Velocity of a buffer's latents, with text, context and stream in one differentiable call.

    It is a module of its own because DDP and FSDP see ``forward`` alone. What can change no
    velocity is frozen: DDP waits for the gradient of everything else.

    Args:
        transformer: the backbone.
        text_encoder: the small one, trained along with it, or the embeddings of a frozen one.
        geometry: of the stream.
    """

    def __init__(
        self,
        transformer: FlowActTransformer3DModel,
        text_encoder: ByteT5TextEncoder | CachedText,
        geometry: Geometry,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.geometry = geometry
        if transformer.config.image_embed_dim is not None:
            transformer.image_embedder.requires_grad_(False)  # windows have no embedded image
        for module in self._idle_modules():
            module.requires_grad_(False)

    def train_adapter(self, trained: bool) -> None:
        """Train the audio adapter too, or leave it as it is.

        Raises:
            ValueError: there is none to train.
        """
        parts = (self.transformer.audio_projector, *(block.audio for block in self._blocks))
        adapter = [part for part in parts if part is not None]
        if trained and not adapter:
            raise ValueError(
                "model.transformer.audio_feature_dim is null, so there is no audio adapter to "
                "train; give the size of the features"
            )
        for part in adapter:
            part.requires_grad_(trained)

    def checkpoint_layers(self, wanted: bool) -> None:
        """Compute a layer's activations again on the way back, or keep them."""
        if wanted:
            self.transformer.enable_gradient_checkpointing()
        else:
            self.transformer.disable_gradient_checkpointing()

    def forward(self, buffer: Buffer) -> Tensor:
        """Velocity [B, C, F, H, W] in float32."""
        dtype = self.transformer.dtype
        texts, text_of_latent = self.texts(buffer.captions)
        stream = StreamInputs(
            buffer.latents.to(dtype),
            buffer.levels,
            self._positions(buffer.slots, buffer.latents.device),
            texts,
            text_of_latent,
            None if buffer.audio is None else buffer.audio.to(dtype),
            buffer.guidance,
            buffer.context[:, :, :1].to(dtype),
        )
        positions = self._positions(buffer.context_slots, buffer.latents.device)
        context = (buffer.context.to(dtype), positions)
        velocity, _ = self.transformer.encode_and_denoise(context, stream, None)
        return velocity.float()

    def texts(self, captions: Sequence[Sequence[str]]) -> tuple[list[TextCache], tuple[int, ...]]:
        """``StreamInputs.texts`` and ``text_of_latent``: each distinct prompt is encoded once.

        Attention runs once for each run of latents whose captions are the same in every sample.
        """
        prompts = list(dict.fromkeys(caption for sample in captions for caption in sample))
        inputs = self.text_encoder.encode(prompts)
        encoded = self.transformer.encode_text(inputs.to(self.transformer.dtype))
        of_latent = list(zip(*captions, strict=True))
        distinct = list(dict.fromkeys(of_latent))
        device = inputs.embeds.device
        texts = [
            encoded.of(torch.tensor([prompts.index(c) for c in batch], device=device))
            for batch in distinct
        ]
        return texts, tuple(distinct.index(batch) for batch in of_latent)

    def _positions(self, slots: Sequence[int], device: torch.device) -> Tensor:
        return torch.tensor([self.geometry.position(slot) for slot in slots], device=device)

    @property
    def _blocks(self) -> list[FlowActBlock]:
        return cast(list[FlowActBlock], list(self.transformer.transformer_blocks))

    def _idle_modules(self) -> list[nn.Module]:
        """What makes text after the last layer that has it: its keys and values alone are read."""
        last = [block for block in self._blocks if block.has_text][-1:]
        return [
            module
            for block in last
            for module in (
                block.attn.add_q_proj,
                block.attn.norm_added_q,
                block.attn.to_add_out,
                block.ff_context,
            )
        ]
