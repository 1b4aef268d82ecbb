"""The thin decoder against a frame-by-frame one of TAEHV's layers, and the files that it takes."""

import copy
from collections.abc import Iterator

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor

from flowact.models.vae import VideoAutoencoder, wrap_autoencoder
from flowact.models.vae_thin import ThinAutoencoder, ThinDecoder, ThinSizes
from flowact.models.vae_thin_weights import load_thin_decoder, save_thin_decoder
from flowact.rng import keyed_normal

MEAN, STD = [0.25, -0.5, 0.0, 1.0], [1.5, 0.5, 2.0, 1.0]
SIZES = ThinSizes(latent_channels=4, widths=(8, 6, 5, 4), time=(1, 2, 2), patch=1, blocks=2)
PATCHED = ThinSizes(latent_channels=4, widths=(8, 6, 5), time=(2, 2), patch=2, blocks=3)
SPLITS = [[7], [1, 3, 3], [4, 3], [1] * 7]
# However latents were cut, frames were the same bit for bit, but a kernel may be chosen by how many
# there are. From the reference they were 2e-6, on values up to 4, where both were as far from it in
# float64.
FLOAT32 = 5e-6

# Of TAEHV's files, by the index of the layer: what madebyollin/taehv builds.
FILES = {
    "taehv1_5": ThinSizes(32, (256, 128, 64, 64), (1, 2, 2), 2),
    "taew2_1": ThinSizes(16, (256, 128, 64, 64), (1, 2, 2), 1),
    "taew2_2": ThinSizes(48, (256, 128, 64, 64), (1, 2, 2), 2),
}
BLOCK = {f"conv.{n}.{part}" for n in (0, 2, 4) for part in ("weight", "bias")}
NAMES = {
    *(f"decoder.{n}.{part}" for n in (1, 22) for part in ("weight", "bias")),
    *(f"decoder.{n}.{part}" for n in (3, 4, 5, 9, 10, 11, 15, 16, 17) for part in BLOCK),
    *(f"decoder.{n}.conv.weight" for n in (7, 13, 19)),
    *(f"decoder.{n}.weight" for n in (8, 14, 20)),
}


def build(sizes: ThinSizes = SIZES) -> ThinDecoder:
    """Random, with activations that stay around 1."""
    decoder = ThinDecoder(sizes)
    for name, weight in decoder.named_parameters():
        draw = keyed_normal(tuple(weight.shape), name)
        weight.data = draw * ((1 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 0.1)
    return decoder.eval()


def full() -> VideoAutoencoder:
    torch.manual_seed(0)
    module = AutoencoderKLWan(base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=MEAN,
                              latents_std=STD)  # fmt: skip
    return wrap_autoencoder(module.eval())


def latents_of(count: int, batch: int = 1, seed: int = 0) -> Tensor:
    return 2 * keyed_normal((batch, 4, count, 3, 2), seed, "latents")


@torch.no_grad()
def stream(decoder: ThinDecoder, latents: Tensor, split: list[int]) -> Tensor:
    frames, cache = [], None
    for chunk in latents.split(split, dim=2):
        out, cache = decoder(chunk, cache)
        frames.append(out)
    return torch.cat(frames, dim=2)


def chain(sizes: ThinSizes) -> list[str]:
    """TAEHV's layers in their order."""
    layers = ["clamp", "conv", "relu"]
    for _ in sizes.time:
        layers += ["memory"] * sizes.blocks + ["double", "grow", "conv"]
    return [*layers, "relu", "conv"]


def reference(decoder: ThinDecoder, latents: Tensor) -> Tensor:
    """One sample and one frame at a time through the chain, from the weights by their names."""
    sizes, weights = decoder.sizes, decoder.state_dict()

    def conv(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), padding=1)

    def push(x: Tensor, at: int, memory: dict[int, Tensor]) -> Iterator[Tensor]:
        if at == len(layers):
            yield x
            return
        name, kind = f"decoder.{at}", layers[at]
        made = [x]
        if kind == "clamp":
            made = [3 * torch.tanh(x / 3)]
        elif kind == "relu":
            made = [x.relu()]
        elif kind == "conv":
            made = [conv(x, name)]
        elif kind == "memory":
            y = torch.cat([x, memory.get(at, torch.zeros_like(x))], dim=1)
            memory[at] = x
            y = conv(conv(conv(y, f"{name}.conv.0").relu(), f"{name}.conv.2").relu(),
                     f"{name}.conv.4")  # fmt: skip
            made = [(y + x).relu()]
        elif kind == "double":
            made = [x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)]
        elif kind == "grow":
            grown = F.conv2d(x, weights[f"{name}.conv.weight"])
            made = list(grown.split(x.shape[1], dim=1))
        for y in made:
            yield from push(y, at + 1, memory)

    layers, clips = chain(sizes), []
    for sample in latents:
        memory: dict[int, Tensor] = {}
        frames = [f for z in sample.unbind(1) for f in push(z[None], 0, memory)]
        frames = frames[sizes.temporal_stride - 1 :]
        clips.append(torch.stack([F.pixel_shuffle(f, sizes.patch)[0] for f in frames], dim=1))
    return torch.stack(clips) * 2 - 1


@pytest.mark.parametrize("sizes", [SIZES, PATCHED], ids=["three stages", "patches"])
def test_it_is_taehvs_chain(sizes):
    decoder = build(sizes).double()
    latents = latents_of(5, batch=2).double()
    with torch.no_grad():
        ours, expected = decoder(latents)[0], reference(decoder, latents)
    assert ours.shape == expected.shape == (2, 3, 17, 3 * 8, 2 * 8)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    assert expected.std() > 0.1


@pytest.mark.parametrize("sizes", [SIZES, PATCHED], ids=["three stages", "patches"])
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_chunk_by_chunk_equals_at_once(sizes, split):
    decoder, latents = build(sizes), latents_of(7, batch=2)
    with torch.no_grad():
        whole, _ = decoder(latents)
    torch.testing.assert_close(stream(decoder, latents, split), whole, rtol=0, atol=FLOAT32)


def test_a_frame_depends_on_earlier_latents_alone():
    """And on those, beyond its own: the memory is in use."""
    decoder, latents = build(), latents_of(4)
    other = latents.clone()
    other[:, :, 2] += 1
    one, two = (stream(decoder, z, [1, 3]) for z in (latents, other))
    assert torch.equal(one[:, :, :5], two[:, :, :5])
    assert (one[:, :, 5:9] - two[:, :, 5:9]).abs().max() > 1e-2
    assert (one[:, :, 9:] - two[:, :, 9:]).abs().max() > 1e-3


def test_an_old_cache_replays_bit_for_bit_and_does_not_grow():
    decoder, latents = build(), latents_of(7)
    with torch.no_grad():
        _, old = decoder(latents[:, :, :1])
        copied = copy.deepcopy(old)
        first, later = decoder(latents[:, :, 1:4], old)
        _, last = decoder(latents[:, :, 4:], later)
        assert torch.equal(decoder(latents[:, :, 1:4], old)[0], first)
    assert all(map(torch.equal, old, copied)), "decode wrote into the cache it was given"
    sizes = [[entry.untyped_storage().nbytes() for entry in cache] for cache in (old, later, last)]
    assert sizes[0] == sizes[1] == sizes[2] == [entry.nbytes for entry in old]


@pytest.mark.parametrize("name", FILES)
def test_names_and_sizes_are_those_of_taehvs_files(name, tmp_path):
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in ThinDecoder(FILES[name]).state_dict().items()}
    assert shapes.keys() == NAMES
    assert shapes["decoder.3.conv.0.weight"] == (256, 512, 3, 3)
    grown = [tuple(shapes[f"decoder.{n}.conv.weight"]) for n in (7, 13, 19)]
    assert grown == [(256, 256, 1, 1), (256, 128, 1, 1), (128, 64, 1, 1)]
    assert shapes["decoder.22.weight"] == (3 * FILES[name].patch ** 2, 64, 3, 3)
    # Half precision, as they are published, and beside an encoder.
    state = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}
    path = tmp_path / f"{name}.pth"
    torch.save(state | {"encoder.0.weight": torch.zeros(1)}, path)
    decoder = load_thin_decoder(path)
    assert decoder.sizes == FILES[name]
    assert decoder.sizes.temporal_stride == 4
    assert decoder.sizes.spatial_stride == 8 * FILES[name].patch
    assert {value.dtype for value in decoder.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("sizes", [SIZES, PATCHED], ids=["three stages", "patches"])
def test_what_is_saved_is_loaded(sizes, tmp_path):
    decoder, latents = build(sizes), latents_of(3)
    save_thin_decoder(decoder, tmp_path / "a.safetensors")
    again = load_thin_decoder(tmp_path / "a.safetensors")
    assert again.sizes == sizes
    assert torch.equal(again(latents)[0], decoder(latents)[0])


def without(*keys):
    return lambda state: {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("decoder.3.conv.2.bias"), r"it lacks decoder\.3\.conv\.2\.bias; give a whole"),
        (lambda s: s | {"decoder.99.bias": torch.zeros(1)}, r"it has besides decoder\.99\.bias"),
        (lambda s: s | {"vae.x": torch.zeros(1)}, r"it has besides vae\.x"),
        (lambda s: s | {"decoder.3.conv.4.bias": torch.zeros(7)},
         r"it has in other shapes decoder\.3\.conv\.4\.bias"),
        (without("decoder.1.weight"), r"do not fit, 'decoder\.1\.weight'; give one such as taehv"),
        (lambda s: {"decoder.conv_in.weight": torch.zeros(1)}, r"decoder\.N\.conv\.weight"),
        (lambda s: s | {"decoder.19.bias": torch.zeros(5)}, "whole number of frames and of pixels"),
        (lambda s: {"decoder.5.conv.weight": torch.zeros(1)}, "is no thin decoder"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [".safetensors", ".pth"])
def test_files_that_do_not_fit_are_refused(change, said, kind, tmp_path):
    path = tmp_path / f"a{kind}"
    state = change(dict(build().state_dict()))
    if kind == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    with pytest.raises(ValueError, match=rf"^decoder=.*a\{kind} .*{said}") as raised:
        load_thin_decoder(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [".safetensors", ".pth"])
def test_files_that_are_none_are_refused(kind, tmp_path):
    path = tmp_path / f"a{kind}"
    with pytest.raises(ValueError, match="there is no such file"):
        load_thin_decoder(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match=r"cannot be read: .*; give a .safetensors or .pth") as bad:
        load_thin_decoder(path)
    assert "\n" not in str(bad.value)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds other things than weights"):
        load_thin_decoder(tmp_path / "list.pth")


def test_it_encodes_with_the_full_one_and_decodes_what_the_denoiser_sees():
    whole, decoder = full(), build()
    thin = ThinAutoencoder(whole, decoder)
    frames = keyed_normal((1, 3, 5, 16, 24), "frames").clamp(-1, 1)
    assert torch.equal(thin.encode(frames), whole.encode(frames))
    latents = latents_of(4)
    made, cache = thin.decode(latents[:, :, :1])
    rest, _ = thin.decode(latents[:, :, 1:], cache)
    with torch.no_grad():
        expected = reference(decoder, latents)  # of normalised latents, whatever their moments
    assert expected.abs().max() > 1
    expected = expected.clamp(-1, 1)
    torch.testing.assert_close(torch.cat([made, rest], 2), expected, rtol=0, atol=FLOAT32)
    for module in thin.modules:
        module.to(torch.bfloat16)
    half, _ = thin.decode(latents)
    assert half.dtype == torch.float32
    # bfloat16 has 8 bits; measured 0.3 %.
    assert (half - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (
            ThinSizes(5, (8, 6, 5, 4), (1, 2, 2), 1),
            "latent_channels of the thin decoder is 5, .* 4",
        ),
        (
            ThinSizes(4, (8, 6, 5, 4), (1, 2, 2), 2),
            "spatial_stride of the thin decoder is 16, .* 8",
        ),
        (ThinSizes(4, (8, 6, 5, 4), (1, 1, 2), 1), "temporal_stride of the thin .* is 2, .* is 4"),
    ],
)
def test_a_decoder_of_other_latents_is_refused(sizes, said):
    with pytest.raises(ValueError, match=said):
        ThinAutoencoder(full(), ThinDecoder(sizes))
