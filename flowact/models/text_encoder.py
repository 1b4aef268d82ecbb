"""Prompts to embeddings: the demo's encoder on bytes, and HunyuanVideo-1.5's own (design 6)."""

from __future__ import annotations  # naming a class of transformers would load it

import logging
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import diffusers
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image

    from flowact.models.byte_t5 import ByteT5Model

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class TextInputs:
    """A batch of prompts as the backbone takes them; None for a stream that the model has not.

    Attributes:
        embeds: embeddings of the first text encoder, [B, L, D].
        mask: which of them are real and not padding, [B, L] bool.
        embeds_2, mask_2: the same of the second text encoder, [B, L2, D2] and [B, L2].
        image_embeds: embeddings of the reference image, [B, M, Di]; all zero for no image.
    """

    embeds: Tensor
    mask: Tensor
    embeds_2: Tensor | None = None
    mask_2: Tensor | None = None
    image_embeds: Tensor | None = None

    def to(self, dtype: torch.dtype) -> TextInputs:
        """The same embeddings in another precision."""
        second, image = self.embeds_2, self.image_embeds
        return replace(
            self,
            embeds=self.embeds.to(dtype),
            embeds_2=None if second is None else second.to(dtype),
            image_embeds=None if image is None else image.to(dtype),
        )


class ByteT5TextEncoder(nn.Module):
    """A small T5 encoder on UTF-8 bytes: no vocabulary file, any script, trained with the demo.

    Args:
        model: over ByT5's tokens, which it gathers four by four.
    """

    def __init__(self, model: ByteT5Model) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = transformers.ByT5Tokenizer()

    @classmethod
    def from_sizes(
        cls, width: int = 128, layers: int = 2, heads: int = 4, max_bytes: int = 256
    ) -> ByteT5TextEncoder:
        """An untrained encoder; longer prompts than ``max_bytes`` are cut."""
        from flowact.models.byte_t5 import ByteT5Model

        config = transformers.T5Config(
            vocab_size=len(transformers.ByT5Tokenizer()),
            d_model=width,
            d_kv=width // heads,
            d_ff=2 * width,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            max_bytes=max_bytes,
        )
        return cls(ByteT5Model(config))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ByteT5TextEncoder:
        """Load what ``save_pretrained`` wrote.

        Raises:
            ValueError: the folder or a weight is missing, or it holds another model.
        """
        from flowact.models.byte_t5 import ByteT5Model

        return cls(_load_model(ByteT5Model, Path(folder)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config and weights (safetensors) into ``folder``."""
        self.model.save_pretrained(folder)

    def encode(self, texts: Sequence[str]) -> TextInputs:
        """Embed prompts, D = width, four bytes a token; the empty one (null text) is one token."""
        return self(*self.tokenize(texts))

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids of bytes and their mask, [B, L] each, L at most ``max_bytes`` and the end's."""
        tokens = self.tokenizer(
            [self._cut(clean_text(text)) for text in texts],
            padding=True,
            split_special_tokens=True,  # "</s>" in a prompt is four characters
            return_tensors="pt",
        ).to(self.model.device)
        return tokens.input_ids, tokens.attention_mask.bool()

    def forward(self, ids: Tensor, mask: Tensor) -> TextInputs:
        """Embed ids of bytes [B, L]."""
        return TextInputs(*self.model.embed(ids, mask))

    def _cut(self, text: str) -> str:
        encoded, limit = text.encode(), self.model.config.max_bytes
        if len(encoded) <= limit:
            return text
        kept = encoded[:limit].decode(errors="ignore")
        logger.warning(
            "a prompt of %d characters is too long; its first %d are used (%d of %d bytes): %r...",
            len(text), len(kept), len(kept.encode()), len(encoded), kept[:40],
        )  # fmt: skip
        return kept


class HunyuanTextEncoder(nn.Module):
    """HunyuanVideo-1.5's frozen encoders: Qwen2.5-VL, ByT5 for quoted text, SigLIP for the image.

    Prompts go through the templates, layers and lengths of diffusers' pipeline, by calling it.
    """

    def __init__(
        self,
        text_encoder: transformers.Qwen2_5_VLTextModel,
        tokenizer: transformers.Qwen2Tokenizer,
        text_encoder_2: transformers.T5EncoderModel,
        tokenizer_2: transformers.ByT5Tokenizer,
        image_encoder: transformers.SiglipVisionModel | None = None,
        feature_extractor: transformers.SiglipImageProcessor | None = None,
    ) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.text_encoder_2 = text_encoder_2
        self.tokenizer_2 = tokenizer_2
        self.image_encoder = image_encoder
        self.feature_extractor = feature_extractor
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> HunyuanTextEncoder:
        """Load from a local folder in diffusers' layout, in the precision it was saved in.

        ``image_encoder`` and ``feature_extractor`` are absent in text-to-video folders.

        Raises:
            ValueError: the folder, a subfolder, a file or a weight is missing.
        """
        folder = Path(folder)
        _require_folder(folder)
        image_parts: tuple[Any, ...] = ()
        if (folder / "image_encoder").is_dir():
            image_parts = (
                _load_model(transformers.SiglipVisionModel, folder / "image_encoder"),
                _load(transformers.SiglipImageProcessor, folder / "feature_extractor"),
            )
        return cls(
            _load_model(transformers.Qwen2_5_VLTextModel, folder / "text_encoder"),
            _load_tokenizer(transformers.Qwen2Tokenizer, folder / "tokenizer"),
            _load_model(transformers.T5EncoderModel, folder / "text_encoder_2"),
            _load_tokenizer(transformers.ByT5Tokenizer, folder / "tokenizer_2"),
            *image_parts,
        )

    @torch.no_grad()
    def encode(self, texts: Sequence[str], image: Image | None = None) -> TextInputs:
        """Embed prompts and the reference image; the empty prompt is the null text.

        Both text streams are padded to their longest prompt, the second one's length being 0
        where no prompt quotes a text. Without ``image`` its embeddings are zeros, as the base does
        for text to video, or None where the folder has no image encoder.

        Raises:
            ValueError: an image for a folder without an image encoder.
        """
        prompts = [clean_text(text) for text in texts]
        device = self.text_encoder.device
        first = diffusers.HunyuanVideo15ImageToVideoPipeline._get_mllm_prompt_embeds(
            self.text_encoder, self.tokenizer, prompts, device
        )
        second = diffusers.HunyuanVideo15ImageToVideoPipeline._get_byt5_prompt_embeds(
            self.tokenizer_2, self.text_encoder_2, prompts, device
        )
        image_embeds = self.encode_image(image)
        if image_embeds is not None:
            image_embeds = image_embeds.expand(len(prompts), -1, -1)
        return TextInputs(*_drop_padding(*first), *_drop_padding(*second), image_embeds)

    @torch.no_grad()
    def encode_image(self, image: Image | None) -> Tensor | None:
        """[1, M, Di], zeros for no image; None without an image encoder."""
        if self.image_encoder is None:
            if image is not None:
                raise ValueError(
                    "image: these weights have no image_encoder; use an image-to-video model's"
                )
            return None
        if image is None:
            config = self.image_encoder.config
            patches = (config.image_size // config.patch_size) ** 2
            return next(self.image_encoder.parameters()).new_zeros(1, patches, config.hidden_size)
        embeds: Tensor = diffusers.HunyuanVideo15ImageToVideoPipeline._get_image_embeds(
            self.image_encoder, self.feature_extractor, image, self.image_encoder.device
        )
        return embeds


class PromptCache(Generic[T]):
    """``encode``, called once for each text among the last ``capacity`` that were asked for."""

    def __init__(self, encode: Callable[[str], T], capacity: int = 64) -> None:
        self._encode = lru_cache(maxsize=capacity)(encode)

    def __getitem__(self, text: str) -> T:
        return self._encode(text)


def clean_text(text: str) -> str:
    """A prompt that any encoder can read: control characters as spaces, lone surrogates as "?"."""
    text = text.encode(errors="replace").decode()
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in text).strip()


def _drop_padding(embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings and bool mask without the tokens that are padding in every sample."""
    if bool(mask.all(dim=1).any()):
        logger.warning(
            "a prompt fills all %d tokens of its encoder; text beyond is not used", mask.shape[1]
        )
    real = mask.bool().any(dim=0)
    return embeds[:, real], mask[:, real].bool()


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give a folder of weights saved for diffusers")


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained(folder)``, never from the network."""
    _require_folder(folder)
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder}: does not hold a {kind.__name__} ({reason})") from error


def _load_model(kind: Any, folder: Path) -> Any:
    """A model of which every weight is in ``folder``; transformers makes up the missing ones."""
    model, report = _load(kind, folder, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{folder}: {len(missing)} weights are missing, {missing[0]!r} first; save it again"
        )
    return model


def _load_tokenizer(kind: Any, folder: Path) -> Any:
    """A tokenizer whose files are in ``folder``; without them transformers makes an empty one."""
    tokenizer = _load(kind, folder)
    if not (folder / "tokenizer_config.json").is_file() or not tokenizer("a").input_ids:
        raise ValueError(f"{folder}: files of the {kind.__name__} are missing; save it again")
    return tokenizer
