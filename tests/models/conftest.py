"""HunyuanVideo-1.5's encoders at toy sizes, for every test that needs a folder of them."""

import pytest
import torch
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
