"""Text encoders: the byte encoder's own laws, and HunyuanVideo-1.5's against diffusers."""

import logging
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Transformer3DModel,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from flowact.models.byte_t5 import BYTES_PER_TOKEN
from flowact.models.text_encoder import (
    ByteT5TextEncoder,
    HunyuanTextEncoder,
    PromptCache,
    clean_text,
)

# Float32 sums over other lengths of padding round differently; the values are of order one.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}

SCRIPTS = ["She waves.", "她在挥手。", "إنها تلوّح بيدها", "👩🏽‍🦱 waves 👋", "नमस्ते"]


@pytest.fixture(scope="module")
def byte_encoder():
    torch.manual_seed(0)
    return ByteT5TextEncoder.from_sizes(width=32, layers=2, heads=2, max_bytes=40).eval()


def test_a_batch_is_each_prompt_alone(byte_encoder):
    batch = byte_encoder.encode(["", *SCRIPTS])
    assert batch.embeds.shape == (6, batch.mask.shape[1], 32)
    assert batch.mask.dtype == torch.bool
    assert batch.embeds_2 is batch.mask_2 is batch.image_embeds is None
    for row, text in enumerate(["", *SCRIPTS]):
        alone = byte_encoder.encode([text])
        assert alone.mask.all()
        tokens = -(-(len(text.encode()) + 1) // BYTES_PER_TOKEN)
        assert int(batch.mask[row].sum()) == alone.mask.shape[1] == tokens
        torch.testing.assert_close(batch.embeds[row][batch.mask[row]], alone.embeds[0], **ROUNDING)


def test_the_null_text_is_the_end_token_and_blank_prompts_are_null(byte_encoder):
    ids, mask = byte_encoder.tokenize(["", " \t\n"])
    assert ids.tolist() == [[1], [1]]
    assert mask.all()


def test_special_tokens_in_a_prompt_are_plain_characters(byte_encoder):
    ids, _ = byte_encoder.tokenize(["</s><pad>"])
    assert ids[0].tolist() == [byte + 3 for byte in b"</s><pad>"] + [1]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a" * 40, 40),
        ("a" * 41, 40),
        ("a" + "é" * 20, 39),  # 41 bytes: the last é would be cut in half
        ("挥" * 14, 39),
        ("👋" * 11, 40),
        ("x" * 1_000_000, 40),
    ],
)
def test_long_prompts_are_cut_between_characters_and_said(byte_encoder, caplog, text, kept):
    with caplog.at_level(logging.WARNING):
        ids, mask = byte_encoder.tokenize([text])
    assert mask.all()
    assert ids[0].tolist() == [byte + 3 for byte in text.encode()[:kept]] + [1]
    whole = kept == len(text.encode())
    assert len(caplog.messages) == (0 if whole else 1)
    if not whole:
        assert f"({kept} of {len(text.encode())} bytes)" in caplog.messages[0]


def test_every_weight_that_a_prompt_uses_gets_a_gradient(byte_encoder):
    byte_encoder.encode(["She waves."]).embeds.square().sum().backward()
    grads = {name: parameter.grad for name, parameter in byte_encoder.named_parameters()}
    byte_encoder.zero_grad(set_to_none=True)
    assert len(grads) > 10
    assert [name for name, grad in grads.items() if grad is None or not grad.any()] == []


def test_saved_and_loaded_is_the_same_encoder(byte_encoder, tmp_path):
    byte_encoder.save_pretrained(tmp_path)
    loaded = ByteT5TextEncoder.from_pretrained(tmp_path)
    expected, given = (encoder.encode(["y" * 90, *SCRIPTS]) for encoder in (byte_encoder, loaded))
    assert torch.equal(given.embeds, expected.embeds)
    assert torch.equal(given.mask, expected.mask)


def test_folders_that_hold_no_byte_encoder_are_named(byte_encoder, tmp_path):
    with pytest.raises(ValueError, match=r"absent: no such folder"):
        ByteT5TextEncoder.from_pretrained(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"does not hold a ByteT5Model"):
        ByteT5TextEncoder.from_pretrained(tmp_path)
    byte_encoder.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    dropped = sorted(tensors)[3]
    save_file({k: v for k, v in tensors.items() if k != dropped}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=f"1 weights are missing, '{re.escape(dropped)}'"):
        ByteT5TextEncoder.from_pretrained(tmp_path)
    save_file({k: v.repeat_interleave(2, 0) for k, v in tensors.items()}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"does not hold a ByteT5Model"):
        ByteT5TextEncoder.from_pretrained(tmp_path)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"does not hold a ByteT5Model"):
        ByteT5TextEncoder.from_pretrained(tmp_path)
    T5EncoderModel(T5Config(vocab_size=9, d_model=8, num_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"4 weights are missing, 'gather.bias' first"):
        ByteT5TextEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("She\twaves.\r\n", "She waves."),
        ("\x00\x1b[2Jhi\x7f", "[2Jhi"),
        ("half \ud83d pair", "half ? pair"),
        *((text, text) for text in SCRIPTS),
    ],
)
def test_clean_text(text, clean):
    assert clean_text(text) == clean


def test_the_cache_encodes_each_text_once_and_forgets_the_one_longest_unused():
    encoded = []
    cache = PromptCache(lambda text: encoded.append(text) or text.upper(), capacity=2)
    assert [cache[text] for text in ("a", "b", "a", "c", "a", "b")] == list("ABACAB")
    assert encoded == ["a", "b", "c", "b"]


# --- HunyuanVideo-1.5 ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(hunyuan_folder):
    return HunyuanTextEncoder.from_pretrained(hunyuan_folder)


@pytest.fixture(scope="module")
def pipeline(hunyuan_parts):
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=2,
        block_out_channels=(4, 4),
        layers_per_block=1,
        spatial_compression_ratio=2,
        temporal_compression_ratio=1,
    )
    unused = dict.fromkeys(("transformer", "scheduler", "guider"))
    return HunyuanVideo15ImageToVideoPipeline(vae=vae, **hunyuan_parts, **unused)


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


PROMPTS = ["", 'A sign says "Hi" and "Bye".', "She waves with her right hand.", "写着“你好”的牌子"]


@torch.no_grad()
def test_hunyuan_embeddings_are_those_of_the_diffusers_pipeline(encoder, pipeline, image):
    given = encoder.encode(PROMPTS, image)
    embeds, mask, embeds_2, mask_2 = pipeline.encode_prompt(
        PROMPTS, device=torch.device("cpu"), batch_size=len(PROMPTS)
    )
    for ours, our_mask, theirs, their_mask in (
        (given.embeds, given.mask, embeds, mask),
        (given.embeds_2, given.mask_2, embeds_2, mask_2),
    ):
        kept = ours.shape[1]
        assert kept == int(their_mask.sum(dim=1).max())
        assert our_mask.dtype == torch.bool
        assert torch.equal(our_mask, their_mask[:, :kept].bool())
        assert torch.equal(ours, theirs[:, :kept])
    assert given.mask_2.any(dim=1).tolist() == [False, True, False, True]
    expected = pipeline.encode_image(image, len(PROMPTS), torch.device("cpu"), torch.float32)
    assert torch.equal(given.image_embeds, expected)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder.training


def test_without_an_image_the_embeddings_are_the_zeros_of_text_to_video(encoder):
    given = encoder.encode(["She waves."])
    assert torch.equal(given.image_embeds, torch.zeros(1, 16, 8))
    assert given.embeds_2.shape == (1, 0, 12)
    assert given.mask_2.shape == (1, 0)


@torch.no_grad()
def test_dropped_padding_makes_no_difference_to_the_base_model(encoder, pipeline, image):
    torch.manual_seed(0)
    base = HunyuanVideo15Transformer3DModel(
        in_channels=5, out_channels=2, num_attention_heads=2, attention_head_dim=8, num_layers=2,
        num_refiner_layers=1, text_embed_dim=16, text_embed_2_dim=12, image_embed_dim=8,
        rope_axes_dim=(2, 2, 4),
    ).eval()  # fmt: skip
    latents, timestep = torch.randn(1, 5, 2, 2, 2), torch.tensor([500.0])
    for prompt in PROMPTS:
        ours = encoder.encode([prompt], image)
        embeds, mask, embeds_2, mask_2 = pipeline.encode_prompt(prompt, torch.device("cpu"))
        expected = base(
            latents, timestep, embeds, mask, None, embeds_2, mask_2, ours.image_embeds
        ).sample
        given = base(
            latents, timestep, ours.embeds, ours.mask, None, ours.embeds_2, ours.mask_2,
            ours.image_embeds,
        ).sample  # fmt: skip
        torch.testing.assert_close(given, expected, **ROUNDING)


def test_hunyuan_prompts_beyond_the_limit_are_cut_and_said(encoder, caplog):
    with caplog.at_level(logging.WARNING):
        given = encoder.encode(["x" * 2000])
    assert given.embeds.shape[1] == 1000
    assert caplog.messages == [
        "a prompt fills all 1000 tokens of its encoder; text beyond is not used"
    ]


@pytest.mark.parametrize("text", [*SCRIPTS, "half \ud83d pair", "\x00"])
def test_hunyuan_takes_any_script(encoder, text):
    assert encoder.encode([text]).embeds.isfinite().all()


def test_text_to_video_folders_have_no_image_encoder(hunyuan_folder, image, tmp_path):
    for name in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"):
        shutil.copytree(hunyuan_folder / name, tmp_path / name)
    encoder = HunyuanTextEncoder.from_pretrained(tmp_path)
    assert encoder.encode(["She waves."]).image_embeds is None
    with pytest.raises(ValueError, match="no image_encoder"):
        encoder.encode(["She waves."], image)


PARTS = ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "feature_extractor"]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("emptied", [False, True])
def test_missing_and_empty_subfolders_are_named(hunyuan_folder, tmp_path, name, emptied):
    shutil.copytree(hunyuan_folder, tmp_path / "weights")
    shutil.rmtree(tmp_path / "weights" / name)
    if emptied:
        (tmp_path / "weights" / name).mkdir()
    with pytest.raises(ValueError, match=f"weights/{name}: "):
        HunyuanTextEncoder.from_pretrained(tmp_path / "weights")


def test_a_tokenizer_without_its_vocabulary_is_named(hunyuan_folder, tmp_path):
    shutil.copytree(hunyuan_folder, tmp_path / "weights")
    (tmp_path / "weights" / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="weights/tokenizer: files of the Qwen2Tokenizer"):
        HunyuanTextEncoder.from_pretrained(tmp_path / "weights")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent: no such folder"):
        HunyuanTextEncoder.from_pretrained(tmp_path / "absent")
