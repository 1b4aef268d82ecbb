"""HunyuanVideo-1.5 as diffusers has it, at toy sizes, for every test that needs a folder of it."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo15, HunyuanVideo15Transformer3DModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    ByT5Tokenizer,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    Qwen2Tokenizer,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from flowact.config import load_config
from flowact.import_hunyuan15 import ImportReport, import_hunyuan15
from flowact.runs import ImportConfig

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def hunyuan_parts():
    """The base's encoder classes, random weights, by the names of their folders."""
    alphabet = {symbol: token for token, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(
        vocab={**alphabet, "<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258},
        merges=[],
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHAT_TEMPLATE,
    )
    text_config = Qwen2_5_VLTextConfig(
        vocab_size=259,
        bos_token_id=256,
        eos_token_id=258,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    )
    glyph_config = T5Config(vocab_size=384, d_model=12, d_kv=6, d_ff=20, num_layers=1, num_heads=2)
    image_config = SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    torch.manual_seed(0)
    return {
        "text_encoder": Qwen2_5_VLTextModel(text_config).eval(),
        "tokenizer": tokenizer,
        "text_encoder_2": T5EncoderModel(glyph_config).eval(),
        "tokenizer_2": ByT5Tokenizer(),
        "image_encoder": SiglipVisionModel(image_config).eval(),
        "feature_extractor": SiglipImageProcessor(size={"height": 32, "width": 32}),
    }


@pytest.fixture(scope="session")
def hunyuan_folder(hunyuan_parts, tmp_path_factory):
    """They, saved; not to be changed."""
    folder = tmp_path_factory.mktemp("hunyuan15")
    for name, part in hunyuan_parts.items():
        part.save_pretrained(folder / name)
    return folder


TINY_BASE = dict(
    in_channels=9,
    out_channels=4,
    num_attention_heads=2,
    attention_head_dim=16,
    num_layers=4,
    num_refiner_layers=1,
    text_embed_dim=16,
    text_embed_2_dim=12,
    image_embed_dim=8,
    rope_theta=100.0,
    rope_axes_dim=(4, 6, 6),
)


@pytest.fixture(scope="session")
def make_base():
    """``make_base(**changes)``: the base's backbone, as tiny as its fixed parts allow."""

    def make(**changes) -> HunyuanVideo15Transformer3DModel:
        torch.manual_seed(0)
        return HunyuanVideo15Transformer3DModel(**{**TINY_BASE, **changes}).eval()

    return make


@pytest.fixture(scope="session")
def hunyuan_base(make_base) -> HunyuanVideo15Transformer3DModel:
    """One with no norm at one and no bias at zero, which would test nothing."""
    model = make_base()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def hunyuan_checkpoint(hunyuan_base, hunyuan_folder, tmp_path_factory) -> Path:
    """A whole pipeline, saved, its backbone in several shards; not to be changed."""
    folder = tmp_path_factory.mktemp("import") / "source"
    shutil.copytree(hunyuan_folder, folder)
    AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8, 16, 32, 32, 32), layers_per_block=1
    ).save_pretrained(folder / "vae")
    hunyuan_base.save_pretrained(folder / "transformer", max_shard_size="1MB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    return folder


@pytest.fixture
def run_import():
    """``run_import(source, output, *words)``: at 32x48, and with mel features unless told."""

    def run(source: Path, output: Path, *words: str) -> ImportReport:
        words = (
            f"source={source}",
            f"output={output}",
            "model.height=32",
            "model.width=48",
            "model.audio_encoder.kind=mel",
            "model.transformer.audio_feature_dim=320",
            *words,
        )
        return import_hunyuan15(load_config("import_hunyuan15", words, ImportConfig))

    return run
