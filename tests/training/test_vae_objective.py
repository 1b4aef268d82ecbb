"""The autoencoder's stage: its data, its round trip, its losses, and what it leaves behind."""

import dataclasses
import math

import pytest
import torch
from tiny import tiny_config

from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.renderer import Renderer
from flowact.models.components import build_autoencoder
from flowact.models.vae import wrap_autoencoder
from flowact.models.vae_thin import ThinAutoencoder, ThinDecoder, ThinSizes
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.training import actor_frames
from flowact.training.actor_frames import ActorFrames, ActorFramesDataset, collate, weighted_frames
from flowact.training.checkpoint import find_checkpoint
from flowact.training.export import export
from flowact.training.loop import Trainer
from flowact.training.objective import Draws
from flowact.training.objectives.reconstruction import reconstruction_errors
from flowact.training.objectives.vae import VaeObjective, build_vae, psnr
from flowact.training.objectives.wan_round_trip import (
    ThinRoundTrip,
    WanRoundTrip,
    measure_latents,
)
from flowact.training.settings import (
    OptimiserConfig,
    OptimiserKind,
    ThinConfig,
    TrainConfig,
    VaeConfig,
    VaePart,
)
from flowact.training.stages import build

HEIGHT, WIDTH = 32, 48
IMAGES = 4


@pytest.fixture
def module():
    torch.manual_seed(0)
    return build_autoencoder(tiny_config().autoencoder)


@pytest.fixture
def residual_module():
    """Of the layout of the demo's: patches, and shortcuts around the strides."""
    config = tiny_config().autoencoder
    config.config |= {"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2}
    torch.manual_seed(0)
    return build_autoencoder(config)


THIN = ThinSizes(latent_channels=4, widths=(8, 6, 4), time=(2, 2), patch=2, blocks=1)


@pytest.fixture
def thin():
    torch.manual_seed(1)
    return ThinDecoder(THIN)


def thin_objective(module, thin) -> VaeObjective:
    config = VaeConfig(part=VaePart.thin, images=IMAGES, stills=3, clip_frames=9)
    return VaeObjective(module, config, HEIGHT, WIDTH, 0, thin)


def objective_of(module, **changes) -> VaeObjective:
    config = VaeConfig(images=IMAGES, stills=3, clip_frames=9, **changes)
    return VaeObjective(module, config, HEIGHT, WIDTH, seed=0)


def loss_of(objective: VaeObjective, *samples: int):
    batch = objective.collate([objective.dataset[n] for n in samples])
    return objective.loss("autoencoder", batch, Draws(0, "vae", 0, samples))


def noise_clips(n: int, frames: int) -> torch.Tensor:
    return keyed_normal((n, 3, frames, HEIGHT, WIDTH), "frames", frames).clamp(-1, 1)


def test_samples_are_functions_of_their_index():
    one, other = (ActorFramesDataset(HEIGHT, WIDTH, IMAGES, 3, 9, seed) for seed in (0, 1))
    for sample in (0, IMAGES):
        assert one[sample].frames.equal(one[sample].frames)
        assert not one[sample].frames.equal(one[sample + 1].frames)
        assert not one[sample].frames.equal(other[sample].frames)
    assert one[IMAGES - 1].frames.shape == (3, 3, 1, HEIGHT, WIDTH)
    assert one[IMAGES].frames.shape == (1, 3, 9, HEIGHT, WIDTH)


def test_only_actors_of_the_training_split_are_drawn(monkeypatch):
    seen = []
    make = actor_frames.make_clip

    def watched(seeds, frames):
        seen.append(seeds.identity)
        return make(seeds, frames)

    monkeypatch.setattr(actor_frames, "make_clip", watched)
    dataset = ActorFramesDataset(HEIGHT, WIDTH, 2, 8, 5, seed=0)
    for sample in range(20):
        dataset[sample]
    assert max(seen) < 700_000
    assert len(set(seen)) == len(seen) == 2 * 4 + 18


def test_crops_are_of_what_weighs_more_and_cost_what_a_frame_does():
    height, width, side = 128, 128, 64
    whole = ActorFramesDataset(height, width, 0, 8, 5, seed=0)
    crops = ActorFramesDataset(height, width, 0, 8, 5, seed=0, crop=side)[0]
    assert crops.frames.shape == (4, 3, 5, side, side)
    assert crops.frames.numel() == whole[0].frames.numel()
    # The first actor is the same.
    squares = whole[0].frames[0, 0, 2].unfold(0, side, 1).unfold(1, side, 1)
    assert (squares == crops.frames[0, 0, 2]).all(dim=(2, 3)).any()
    for crop in crops.weight:
        assert crop.mean() > whole[0].weight.mean()


def test_face_mouth_and_hands_weigh_more():
    clip = make_clip(ActorSeeds.of(3), 4)
    renderer = Renderer(clip.identity, 128, 128)
    weight = weighted_frames(renderer, clip.tracks).weight[0, 0]
    for name, least in {"mouth": 18.0, "face": 2.0, "right_wrist": 5.0, "left_wrist": 5.0}.items():
        for frame, place in enumerate(renderer.landmarks(clip.tracks)[name]):
            x, y = (place[:2] * 128).astype(int)
            assert weight[frame, y, x] >= least
    assert weight[:, 0, 0].eq(1).all()
    assert weight.eq(1).float().mean() > 0.4  # most of the picture is none of them


@pytest.mark.parametrize("kind", ["module", "residual_module"])
@pytest.mark.parametrize("frames", [1, 13])
def test_the_round_trip_is_what_streams_do(kind, frames, request):
    module = request.getfixturevalue(kind)
    clips = noise_clips(1, frames)
    with torch.no_grad():
        made, latents = WanRoundTrip(module)(clips)
    streamed = wrap_autoencoder(module)
    # Two orders of the same float32 sums, on values of about 1.
    torch.testing.assert_close(latents, streamed.encode(clips), atol=1e-5, rtol=1e-5)
    decoded, _ = streamed.decode(latents)
    torch.testing.assert_close(made.clamp(-1, 1), decoded, atol=1e-5, rtol=1e-5)


def test_errors_weigh_edges_motion_and_what_matters():
    true = torch.zeros(1, 3, 3, 4, 4)
    weight = torch.ones(1, 1, 3, 4, 4)
    weight[..., 0, 0] = 5
    batch = ActorFrames(true, weight)

    def errors(made):
        found = reconstruction_errors(made, torch.full((1, 2, 1, 1, 1), 3.0), batch)
        return {name: value.item() for name, value in found.items()}

    shifted = errors(true + 0.5)  # evenly too bright, which is neither an edge nor a motion
    assert shifted == {
        "pixels": pytest.approx(0.5 * 20 / 16),
        "edges": 0,
        "motion": 0,
        "latents": 9,
    }
    flicker = true.clone()
    flicker[:, :, 1] = 0.5
    assert errors(flicker)["motion"] == pytest.approx(0.5 * 20 / 16)
    there, here = true.clone(), true.clone()
    there[..., 2, 2], here[..., 0, 0] = 1, 1
    assert errors(here)["pixels"] == pytest.approx(5 * errors(there)["pixels"])
    assert errors(here)["edges"] > 0


@pytest.mark.parametrize("sample", [0, IMAGES])
def test_every_parameter_has_a_gradient_from_single_frames_and_from_clips(module, sample):
    objective = objective_of(module)
    loss_of(objective, sample, sample + 1).total.backward()
    assert all(p.grad is not None for p in objective.networks["autoencoder"].parameters())


def test_a_batch_costs_the_mean_of_its_samples(module):
    objective = objective_of(module, latent_noise=0.5)
    with torch.no_grad():
        for samples in ((0, 1), (IMAGES, IMAGES + 1)):
            alone = [loss_of(objective, sample).total for sample in samples]
            both = loss_of(objective, *samples).total
            # Sums of about ten thousand float32 terms in another order.
            torch.testing.assert_close(both, torch.stack(alone).mean(), rtol=1e-5, atol=0)


def test_the_decoder_alone_leaves_latents_as_they_are(module):
    objective = objective_of(module, part=VaePart.decoder)
    network = objective.networks["autoencoder"]
    clips = noise_clips(1, 5)
    before = wrap_autoencoder(module).encode(clips)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, 0.1)
    loss_of(objective, IMAGES).total.backward()
    assert all(p.grad is not None for p in trained)
    optimiser.step()
    assert wrap_autoencoder(module).encode(clips).equal(before)


@pytest.mark.parametrize("frames", [1, 13])
def test_the_thin_round_trip_is_what_streams_do(module, thin, frames):
    module.register_to_config(latents_mean=[0.5, 0, -1, 2], latents_std=[0.5, 1, 2, 0.25])
    clips = noise_clips(2, frames)
    with torch.no_grad():
        made, latents = ThinRoundTrip(module, thin)(clips)
    full = wrap_autoencoder(module)
    streamed = ThinAutoencoder(full, thin)
    decoded, _ = streamed.decode(streamed.encode(clips))
    # Two orders of the same float32 sums, on values of about 1.
    torch.testing.assert_close(made.clamp(-1, 1), decoded, atol=1e-5, rtol=1e-5)
    mean, std = full.moments
    torch.testing.assert_close((latents - mean) / std, full.encode(clips), atol=1e-5, rtol=1e-5)


def test_noise_for_the_thin_decoder_is_on_latents_as_they_were_made(module, thin):
    module.register_to_config(latents_mean=[0.0] * 4, latents_std=[0.5, 1, 2, 0.25])
    clips, network = noise_clips(1, 5), ThinRoundTrip(module, thin)
    with torch.no_grad():
        noise = 0.1 * keyed_normal((1, 4, 2, HEIGHT // 8, WIDTH // 8), "noise")
        noisy, latents = network(clips, noise)
        expected, _ = thin((latents + noise) / network.std)
    torch.testing.assert_close(noisy, expected)
    assert not torch.equal(network(clips)[0], noisy)


@pytest.mark.parametrize("sample", [0, IMAGES])
def test_the_thin_decoder_learns_and_the_autoencoder_stays(module, thin, sample):
    """The mean picture, at least: that is what a network so small and few steps are good for."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    objective = thin_objective(module, thin)
    network = objective.networks["autoencoder"]
    trained = [p for p in network.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in thin.parameters()}
    optimiser = torch.optim.Adam(trained, 1e-2)
    costs = []
    for _ in range(10):
        losses = loss_of(objective, sample, sample + 1)
        optimiser.zero_grad()
        losses.total.backward()
        assert all(p.grad is not None for p in trained)
        optimiser.step()
        costs.append((losses.parts["pixels"] + losses.parts["edges"]).item())
    assert costs[-1] < 0.8 * costs[0]
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())


def test_a_thin_decoder_is_exported_beside_the_autoencoder(tmp_path):
    """As one file, which streams are decoded by; all else is what the run began with."""
    FlowActPipeline.untrained(tiny_config()).save_pretrained(tmp_path / "start")
    config = TrainConfig(
        model=dataclasses.replace(tiny_config(), height=HEIGHT, width=WIDTH),
        stage="vae",
        weights=str(tmp_path / "start"),
        output=str(tmp_path / "run"),
        steps=2,
        global_batch=1,
        micro_batch=1,
        optimiser=OptimiserConfig(kind=OptimiserKind.muon, lr=1e-2, warmup_steps=1),
        vae=VaeConfig(
            part=VaePart.thin,
            thin=ThinConfig(widths=(8, 6, 4), blocks=1),
            images=1,
            stills=2,
            clip_frames=5,
        ),
    )
    trainer = Trainer(build(config), config)
    assert trainer.run()
    for dtype in (torch.float32, torch.bfloat16):
        output = tmp_path / str(dtype)
        export(config, find_checkpoint(tmp_path / "run", None), output, dtype)
        start, exported = map(FlowActPipeline.from_pretrained, (tmp_path / "start", output))
        for name, value in start.autoencoder.module.state_dict().items():
            kept = exported.autoencoder.module.state_dict()[name]
            assert kept.equal(value.to(dtype).float()), name
        exported.use_decoder(output / "thin_decoder.safetensors")
        assert isinstance(exported.autoencoder, ThinAutoencoder)
        assert exported.autoencoder.decoder.sizes == THIN
        trained = trainer.objective.networks["autoencoder"].thin.state_dict()
        for name, value in exported.autoencoder.decoder.state_dict().items():
            assert value.equal(trained[name].to(dtype).float()), name
    fresh = build(config).networks["autoencoder"].thin.state_dict()
    assert not any(value.equal(trained[name]) for name, value in fresh.items())


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ((8, 4), r"has 1 stages, .* makes 8 pixels and 4 frames of a latent: give from 3 to 4 wid"),
        ((8, 8, 8, 8, 8), r"vae\.thin\.widths has 4 stages"),
    ],
)
def test_thin_stages_that_do_not_fit_are_refused(widths, said):
    vae = VaeConfig(part=VaePart.thin, thin=ThinConfig(widths=widths))
    config = TrainConfig(model=tiny_config(), stage="vae", output="", vae=vae)
    with pytest.raises(ValueError, match=said):
        build_vae(config)


@pytest.mark.parametrize("widths", [(8, 6, 4), (8, 6, 4, 4)])
def test_a_thin_decoder_has_the_strides_of_the_autoencoder(module, widths):
    vae = VaeConfig(part=VaePart.thin, thin=ThinConfig(widths=widths))
    config = TrainConfig(model=tiny_config(), stage="vae", output="", vae=vae)
    decoder = build_vae(config).networks["autoencoder"].thin
    thin = ThinAutoencoder(wrap_autoencoder(module), decoder)  # which refuses others
    assert decoder.sizes.widths == widths
    assert thin.decode(torch.zeros(1, 4, 2, 2, 3))[0].shape == (1, 3, 5, 16, 24)


def test_it_learns(module):
    """The mean picture, at least: that is what a network so small and few steps are good for."""
    objective = objective_of(module)
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    costs = []
    for _ in range(10):
        losses = loss_of(objective, 0, 1)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        costs.append(losses.total.item())
    assert costs[-1] < 0.9 * costs[0]


def test_finished_latents_are_normalised(module):
    clips = [noise_clips(2, 9), noise_clips(1, 13)]
    measure_latents(module, clips)
    latents = [wrap_autoencoder(module).encode(clip).transpose(0, 1).flatten(1) for clip in clips]
    std, mean = torch.std_mean(torch.cat(latents, dim=1), dim=1, correction=0)
    # float32 sums over a few hundred values of about 1.
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std), atol=1e-4, rtol=0)


def test_the_end_of_the_stage_measures_latents_of_its_clips(module):
    objective = objective_of(module)
    objective.finish()
    clips = torch.cat([objective.dataset[IMAGES + n].frames for n in range(16)])
    latents = wrap_autoencoder(module).encode(clips).transpose(0, 1).flatten(1)
    # Half of the clips that were measured: near their mean and deviation, not at them.
    assert latents.mean(dim=1).abs().max() < 0.5
    assert 0.5 < latents.std(dim=1).min() <= latents.std(dim=1).max() < 2


def test_statistics_are_saved_with_the_weights(module, tmp_path):
    measure_latents(module, [noise_clips(1, 9)])
    module.save_pretrained(tmp_path)
    again = type(module).from_pretrained(tmp_path)
    clips = noise_clips(1, 5)
    assert wrap_autoencoder(again).encode(clips).equal(wrap_autoencoder(module).encode(clips))


def test_previews_show_unseen_actors(module, tmp_path):
    with torch.no_grad():
        numbers = objective_of(module).preview(tmp_path, step=7)
    assert (tmp_path / "actors.png").stat().st_size > 1000
    assert set(numbers) == {"psnr", "psnr_last_frame", "psnr_face_and_hands"}
    assert all(math.isfinite(value) and 0 < value < 60 for value in numbers.values())


def test_psnr_in_decibels():
    # An error of 0.2 of 2 is a tenth of the range: 20 dB.
    assert psnr(torch.full((4,), 0.2), torch.zeros(4)).item() == pytest.approx(20, abs=1e-4)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    """From single frames into clips, with two kinds of optimiser in it."""

    def weights_after(steps, output):
        config = TrainConfig(
            model=dataclasses.replace(tiny_config(), height=HEIGHT, width=WIDTH),
            stage="vae",
            output=str(tmp_path / output),
            steps=steps,
            global_batch=2,
            micro_batch=1,
            optimiser=OptimiserConfig(kind=OptimiserKind.muon, lr=1e-3, warmup_steps=1),
            vae=VaeConfig(images=2, stills=3, clip_frames=5),
        )
        trainer = Trainer(build(config), config)
        assert trainer.run()
        return trainer.objective.networks["autoencoder"].state_dict()

    whole = weights_after(2, "whole")
    weights_after(1, "stopped")
    resumed = weights_after(2, "stopped")
    assert all(resumed[name].equal(whole[name]) for name in whole)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"vae\.clip_frames is 20"):
        VaeConfig(clip_frames=20)
    with pytest.raises(ValueError, match=r"vae\.images is -1"):
        VaeConfig(images=-1)
    with pytest.raises(ValueError, match=r"vae\.thin\.widths is \[8\]"):
        ThinConfig(widths=(8,))
    with pytest.raises(ValueError, match=r"vae\.thin\.blocks is 0"):
        ThinConfig(blocks=0)
    with pytest.raises(ValueError, match="clip_frames is 161; it must be 160 or less"):
        ActorFramesDataset(HEIGHT, WIDTH, 0, 1, 161, seed=0)
    config = TrainConfig(
        model=tiny_config(), stage="vae", output="", micro_batch=4, vae=VaeConfig(images=6)
    )
    with pytest.raises(ValueError, match=r"vae\.images is 6; it must be a multiple of micro_batch"):
        build_vae(config)


def test_crops_of_whole_cells_in_the_frame_are_taken_alone():
    model = tiny_config()
    config = TrainConfig(model=model, stage="vae", output="", vae=VaeConfig(crop=40))
    with pytest.raises(ValueError, match=r"vae\.crop is 40; it must be 32 or less"):
        build_vae(config)
    patches = {"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2}
    model.autoencoder.config |= patches
    config = TrainConfig(model=model, stage="vae", output="", vae=VaeConfig(crop=24))
    with pytest.raises(ValueError, match=r"vae\.crop is 24; it must be a multiple of 16"):
        build_vae(config)


def test_it_goes_on_from_saved_weights(module, tmp_path):
    module.save_pretrained(tmp_path / "vae")
    config = TrainConfig(model=tiny_config(), stage="vae", output="", weights=str(tmp_path))
    loaded = build_vae(config).networks["autoencoder"].module
    for name, value in module.state_dict().items():
        assert loaded.state_dict()[name].equal(value)


def test_batches_hold_all_clips():
    parts = [ActorFrames(torch.ones(n, 3, 1, 2, 2), torch.ones(n, 1, 1, 2, 2)) for n in (1, 2)]
    assert collate(parts).frames.shape == (3, 3, 1, 2, 2)
