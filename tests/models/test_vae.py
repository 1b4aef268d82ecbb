"""Streaming decoders against diffusers' own: the same frames however the latents are cut."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLHunyuanVideo15, AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import HunyuanVideo15AttnBlock
from torch import Tensor

from flowact.models.vae import Cache, VideoAutoencoder, wrap_autoencoder
from flowact.rng import keyed_normal

MEAN, STD = [0.25, -0.5, 0.0, 1.0], [1.5, 0.5, 2.0, 1.0]  # exact in float32
SPLITS = [[10], [1, 3, 3, 3], [4, 3, 3], [1] * 10]

# These random nets amplify rounding: diffusers' own float32 frames are 1e-6 to 3e-6 from its
# float64 ones (values up to 1), and other kernels and cuts gave up to 6e-6.
FLOAT32 = 1e-5
# diffusers' Wan upsamples in float32 even in a float64 module, which gave 2e-7.
FLOAT64 = 5e-7


def wan21() -> AutoencoderKLWan:
    return AutoencoderKLWan(base_dim=8, z_dim=4, latents_mean=MEAN, latents_std=STD)


def wan22() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=12,
        z_dim=4,
        num_res_blocks=1,
        latents_mean=MEAN,
        latents_std=STD,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )


def hunyuan15() -> AutoencoderKLHunyuanVideo15:
    return AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8, 16, 32, 32, 32), layers_per_block=1
    )


BUILDERS = {"wan21": wan21, "wan22": wan22, "hunyuan15": hunyuan15}


def build(name: str, window: int | None = 31) -> VideoAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap_autoencoder(BUILDERS[name]().eval(), window=window)


@pytest.fixture(params=BUILDERS)
def vae(request: pytest.FixtureRequest) -> VideoAutoencoder:
    return build(request.param)


def latents_of(count: int, seed: int = 0, batch: int = 1) -> Tensor:
    return keyed_normal((batch, 4, count, 2, 3), seed, "latents")


def frames_of(vae: VideoAutoencoder, count: int) -> Tensor:
    side = vae.spatial_stride
    return keyed_normal((1, 3, count, 2 * side, 3 * side), 0, "frames").clamp(-1, 1)


def moments(vae: VideoAutoencoder, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the latents, read from the module's config as its authors do."""
    config = vae.module.config
    if isinstance(vae.module, AutoencoderKLHunyuanVideo15):
        mean, std = [0.0], [1 / config.scaling_factor]
    else:
        mean, std = config.latents_mean, config.latents_std
    return tuple(torch.tensor(v, dtype=dtype).view(1, -1, 1, 1, 1) for v in (mean, std))


@torch.no_grad()
def reference(vae: VideoAutoencoder, latents: Tensor) -> Tensor:
    """All at once, by diffusers, whose HunyuanVideo-1.5 does not clamp."""
    mean, std = moments(vae, latents.dtype)
    raw = (latents * std + mean).to(vae.module.dtype)
    return vae.module.decode(raw).sample.clamp(-1, 1).to(latents.dtype)


def stream(vae: VideoAutoencoder, latents: Tensor, split: list[int]) -> Tensor:
    frames, cache = [], None
    for chunk in latents.split(split, dim=2):
        out, cache = vae.decode(chunk, cache)
        frames.append(out)
    return torch.cat(frames, dim=2)


def gap(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_chunk_by_chunk_equals_diffusers_at_once(vae: VideoAutoencoder, split: list[int]) -> None:
    latents = latents_of(10)
    assert gap(stream(vae, latents, split), reference(vae, latents)) <= FLOAT32


def test_float64_leaves_no_other_difference(vae: VideoAutoencoder) -> None:
    vae.module.double()
    latents = latents_of(10).double()
    assert gap(stream(vae, latents, [4, 3, 3]), reference(vae, latents)) <= FLOAT64


def test_bfloat16_rounds_no_more_than_diffusers(vae: VideoAutoencoder) -> None:
    latents = latents_of(7)
    exact = reference(vae, latents)
    vae.module.to(torch.bfloat16)
    ours, theirs = stream(vae, latents, [4, 3]), reference(vae, latents)
    assert ours.dtype == torch.float32
    # Errors are random: measured 0.85 to 0.93 times theirs.
    assert (ours - exact).norm() <= 1.1 * (theirs - exact).norm()


@pytest.mark.parametrize("count", [1, 5, 25])
def test_encode_equals_diffusers(vae: VideoAutoencoder, count: int) -> None:
    frames = frames_of(vae, count)
    mean, std = moments(vae, frames.dtype)
    with torch.no_grad():
        expected = (vae.module.encode(frames).latent_dist.mode() - mean) / std
    latents = vae.encode(frames)
    assert latents.shape == (1, 4, 1 + count // 4, 2, 3)
    assert gap(latents, expected) <= FLOAT32


@pytest.mark.parametrize(
    ("name", "spatial_stride"), [("wan21", 8), ("wan22", 16), ("hunyuan15", 16)]
)
def test_frames_per_push(name: str, spatial_stride: int) -> None:
    vae = build(name)
    assert (vae.latent_channels, vae.temporal_stride) == (4, 4)
    assert vae.spatial_stride == spatial_stride
    height, width = 2 * spatial_stride, 3 * spatial_stride
    frames, cache = vae.decode(latents_of(2))
    assert frames.shape == (1, 3, 5, height, width)
    frames, _ = vae.decode(latents_of(3), cache)
    assert frames.shape == (1, 3, 12, height, width)


@torch.no_grad()
def test_frames_are_clamped(vae: VideoAutoencoder) -> None:
    for parameter in vae.module.decoder.conv_out.parameters():
        parameter.mul_(100)
    frames, _ = vae.decode(latents_of(2))
    assert frames.abs().max() == 1


def test_samples_of_a_batch_are_independent(vae: VideoAutoencoder) -> None:
    latents = latents_of(4, batch=2)
    together = stream(vae, latents, [1, 3])
    for index in range(2):
        alone = stream(vae, latents[index : index + 1], [1, 3])
        assert gap(together[index : index + 1], alone) <= FLOAT32


def test_interleaved_streams_do_not_disturb_each_other(vae: VideoAutoencoder) -> None:
    both = [latents_of(7, seed) for seed in (1, 2)]
    alone = [stream(vae, latents, [1, 3, 3]) for latents in both]
    caches: list[Cache | None] = [None, None]
    frames: list[list[Tensor]] = [[], []]
    for start, stop in ((0, 1), (1, 4), (4, 7)):
        for index, latents in enumerate(both):
            out, caches[index] = vae.decode(latents[:, :, start:stop], caches[index])
            frames[index].append(out)
            # diffusers' own calls, which do keep state in the module.
            vae.encode(frames_of(vae, 1))
            reference(vae, latents[:, :, :1])
    for index in range(2):
        assert torch.equal(torch.cat(frames[index], dim=2), alone[index])


def test_threads_share_a_module(vae: VideoAutoencoder) -> None:
    many = [latents_of(7, seed) for seed in range(4)]
    alone = [stream(vae, latents, [1, 3, 3]) for latents in many]
    clip = frames_of(vae, 5)
    with ThreadPoolExecutor(2) as pool:
        streams = [pool.submit(stream, vae, latents, [1, 3, 3]) for latents in many]
        encoded = [pool.submit(vae.encode, clip) for _ in range(2)]
    for future, expected in zip(streams, alone, strict=True):
        assert torch.equal(future.result(), expected)
    if isinstance(vae.module, AutoencoderKLWan):
        assert not hasattr(vae.module, "_feat_map"), "diffusers' cache in the module was used"
    assert torch.equal(encoded[0].result(), vae.encode(clip))


def test_an_old_cache_replays_bit_for_bit(vae: VideoAutoencoder) -> None:
    latents = latents_of(10)
    _, old = vae.decode(latents[:, :, :4])
    copied = copy.deepcopy(old)
    first, later = vae.decode(latents[:, :, 4:7], old)
    vae.decode(latents[:, :, 7:], later)
    assert all(map(torch.equal, old, copied)), "decode wrote into the cache it was given"
    assert torch.equal(vae.decode(latents[:, :, 4:7], old)[0], first)
    assert torch.equal(vae.decode(latents[:, :, 4:7], copied)[0], first)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_cache_does_not_grow(name: str) -> None:
    vae = build(name, window=3)
    cache: Cache | None = None
    sizes = []
    for start in range(0, 9, 3):
        _, cache = vae.decode(latents_of(9)[:, :, start : start + 3], cache)
        sizes.append(sum(entry.untyped_storage().nbytes() for entry in cache))
    assert sizes[0] >= sizes[1] // 2
    assert sizes[1] == sizes[2] == sum(entry.nbytes for entry in cache)


def windowed_mask(window: int) -> staticmethod:
    """Stands in for diffusers' mask: a latent sees itself and the ``window - 1`` before it."""

    def mask(
        n_frame: int, n_hw: int, dtype: torch.dtype, device: torch.device, batch_size: int
    ) -> Tensor:
        frame = torch.arange(n_frame * n_hw, device=device) // n_hw
        age = frame[:, None] - frame
        values = torch.zeros(age.shape, dtype=dtype, device=device)
        values.masked_fill_((age < 0) | (age >= window), float("-inf"))
        return values.expand(batch_size, -1, -1)

    return staticmethod(mask)


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_beyond_its_window_hunyuan15_equals_a_masked_decode(
    window: int, split: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, latents = build("hunyuan15", window), latents_of(10)
    monkeypatch.setattr(
        HunyuanVideo15AttnBlock, "prepare_causal_attention_mask", windowed_mask(window)
    )
    assert gap(stream(vae, latents, split), reference(vae, latents)) <= FLOAT32


def test_hunyuan15_departs_from_the_full_decode_only_beyond_its_window() -> None:
    window, latents = 4, latents_of(10)
    full = reference(build("hunyuan15"), latents)
    ours = stream(build("hunyuan15", window), latents, [4, 3, 3])
    within = 4 * window - 3  # frames of the first `window` latents
    assert gap(ours[:, :, :within], full[:, :, :within]) <= FLOAT32
    beyond = full[:, :, within:]
    deviation = ((ours[:, :, within:] - beyond).norm() / beyond.norm()).item()
    # Measured 0.073 on these random weights, which attend almost evenly: an order of magnitude.
    assert 1e-3 < deviation < 0.2, f"relative deviation beyond the window: {deviation:.2g}"


def test_hunyuan15_without_a_window_equals_the_full_decode() -> None:
    latents = latents_of(34)  # beyond the default window
    vae = build("hunyuan15", window=None)
    assert gap(stream(vae, latents, [1, 11, 11, 11]), reference(vae, latents)) <= FLOAT32
    assert gap(stream(build("hunyuan15"), latents, [34]), reference(vae, latents)) > FLOAT32


def test_bad_input_is_named(vae: VideoAutoencoder) -> None:
    with pytest.raises(ValueError, match=r"frames are .*4n \+ 1"):
        vae.encode(frames_of(vae, 4))
    with pytest.raises(ValueError, match="multiples of"):
        vae.encode(frames_of(vae, 1)[..., :-1])
    with pytest.raises(ValueError, match=r"latents are .*\[B, 4, F, h, w\]"):
        vae.decode(latents_of(1)[:, :3])
    with pytest.raises(ValueError, match="AutoencoderKL is not a known video autoencoder"):
        wrap_autoencoder(AutoencoderKL(block_out_channels=(8,), norm_num_groups=8))
    with pytest.raises(ValueError, match=r"vae\.window is 0"):
        build("hunyuan15", window=0)
