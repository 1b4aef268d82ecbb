"""Low-rank updates: nothing at first, trained alone, exact to go on from, and gone when merged."""

import copy

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader
from window_training import make_clips, make_draws, make_model_config, make_network

from flowact.training.checkpoint import find_checkpoint
from flowact.training.loop import Trainer
from flowact.training.lora import merge_lora
from flowact.training.objectives.audio_motion import AudioMotion
from flowact.training.objectives.autoregressive import Autoregressive
from flowact.training.optimiser import make_optimisers
from flowact.training.settings import LoopConfig, OptimiserConfig, OptimiserKind
from flowact.training.window_settings import (
    AudioMotionConfig,
    AutoregressiveConfig,
    LevelsConfig,
    LoraSettings,
    TasksConfig,
)

RANK_4 = LoraSettings(rank=4, alpha=8)
SAMPLES = (0, 1)
STREAM = TasksConfig(without_long_term=0, reference_alone=0, refinement=0)
STAGES = {
    "autoregressive": (Autoregressive, AutoregressiveConfig),
    "audio_motion": (AudioMotion, AudioMotionConfig),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips") / "data", [8, 9])


@pytest.fixture
def make_objective(make_transformer, folder):
    """A stage with updates, which are the same whatever was drawn before."""

    def make(stage="audio_motion", lora=RANK_4, **changes):
        kind, config = STAGES[stage]
        settings = config(folders=(str(folder),), lora=lora, **changes)
        network = make_network(make_transformer(layer_pattern=("full", "temporal")))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return kind(network, make_model_config(), settings, micro_batch=2, seed=0)

    return make


def loss_of(objective):
    """Of one micro-batch, always the same, and one noise."""
    batch = objective.collate([objective.dataset[sample] for sample in SAMPLES])
    return objective.loss("model", batch, make_draws(SAMPLES)).total


def learn(objective, steps, kind=OptimiserKind.adamw):
    """Losses of ``loss_of``'s batch while it is learnt by heart."""
    batch = objective.collate([objective.dataset[sample] for sample in SAMPLES])
    config = OptimiserConfig(kind=kind, lr=2e-2)
    optimisers = make_optimisers(objective.networks["model"], config)
    losses = []
    for _ in range(steps):
        loss = objective.loss("model", batch, make_draws(SAMPLES)).total
        losses.append(float(loss.detach()))
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    return losses


def trained_names(network):
    return {name for name, p in network.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("stage", STAGES)
def test_fresh_updates_change_nothing_bit_for_bit(make_objective, stage):
    plain, updated = make_objective(stage, LoraSettings()), make_objective(stage)
    # Torch multiplies what requires a gradient by other kernels, which round otherwise.
    for objective in (plain, updated):
        objective.networks["model"].requires_grad_(False)
    assert torch.equal(loss_of(plain), loss_of(updated))


@pytest.mark.parametrize("stage", STAGES)
def test_updates_and_in_stage_2_the_adapter_are_trained(make_objective, stage):
    names = trained_names(make_objective(stage).networks["model"])
    adapter = {name for name in names if ".audio" in name}
    assert all(".lora_" not in name for name in adapter)
    assert bool(adapter) == (stage == "audio_motion")
    video = {
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2"
    }  # fmt: skip
    # After the last layer with text, its keys and values alone have been read.
    of_layers = (video | {"attn.add_k_proj", "attn.add_v_proj"}, video)
    assert names - adapter == {
        f"transformer.transformer_blocks.{layer}.{linear}.lora_{factor}.default.weight"
        for layer, linears in enumerate(of_layers)
        for linear in linears
        for factor in "AB"
    }


@pytest.mark.parametrize("stage", STAGES)
def test_every_trained_parameter_has_a_gradient(make_objective, stage):
    """For DDP waits for it; with layers run again on the way back the gradient is the same."""
    gradients = []
    for again in (False, True):
        objective = make_objective(stage, tasks=STREAM, gradient_checkpointing=again)
        loss_of(objective).backward()
        network = objective.networks["model"]
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.requires_grad})
        assert all(p.grad is None for p in network.parameters() if not p.requires_grad)
    once, twice = gradients
    assert all(gradient is not None for gradient in once.values())
    assert all(torch.equal(gradient, twice[name]) for name, gradient in once.items())


@pytest.mark.parametrize("kind", OptimiserKind)
def test_a_batch_is_learnt_by_heart(make_objective, kind):
    levels = LevelsConfig(staircase=1, independent=0, common=0)
    objective = make_objective("autoregressive", levels=levels, tasks=STREAM)
    losses = learn(objective, 20, kind)
    # Latents and noise have variance 1 each, so that a velocity of zero costs 2.
    assert losses[0] > 1.5
    assert losses[-1] < 0.8 * losses[0]


def test_merged_weights_do_as_the_updates_did(make_objective):
    objective = make_objective()
    network = objective.networks["model"]
    before = make_objective(lora=LoraSettings()).networks["model"].transformer
    first, *_, last = learn(objective, 5)
    assert last < first
    apart = loss_of(objective).detach()
    merge_lora(network.transformer)
    # float32: (W + s B A) x and W x + s B (A x) round otherwise.
    torch.testing.assert_close(loss_of(objective).detach(), apart, rtol=1e-5, atol=0)
    assert network.transformer.state_dict().keys() == before.state_dict().keys()
    assert not hasattr(network.transformer, "peft_config")


def test_the_average_shares_what_is_frozen(make_objective, tmp_path):
    objective = make_objective(average=0.5)
    begun = copy.deepcopy(objective.networks["model"].state_dict())
    trainer = train(objective, tmp_path, steps=2)
    network, average = (trainer.objective.networks[r] for r in ("model", "model_average"))
    names = trained_names(network)
    means = dict(average.named_parameters())
    for name, parameter in network.named_parameters():
        assert (means[name] is parameter) == (name not in names)
        assert torch.equal(parameter, begun[name]) == (name not in names), name
        assert torch.equal(parameter, means[name]) == (name not in names), name


def train(objective, output, steps):
    loop = LoopConfig(
        output=str(output),
        steps=steps,
        global_batch=4,
        micro_batch=2,
        optimiser=OptimiserConfig(lr=1e-2, warmup_steps=1),
    )
    trainer = Trainer(objective, loop)
    assert trainer.run()
    return trainer


def test_a_run_that_was_stopped_goes_on_exactly_from_what_was_trained(make_objective, tmp_path):
    whole = train(make_objective(), tmp_path / "whole", 4)
    stored = FileSystemReader(find_checkpoint(tmp_path / "whole", 4)).read_metadata()
    names = {name for name in stored.state_dict_metadata if name.startswith("networks/")}
    trained = trained_names(whole.objective.networks["model"])
    assert names == {f"networks/model{part}/{n}" for n in trained for part in ("", "_average")}
    train(make_objective(), tmp_path / "parts", 2)
    parts = train(make_objective(), tmp_path / "parts", 4)
    for role, network in whole.objective.networks.items():
        resumed = parts.objective.networks[role].state_dict()
        assert all(torch.equal(v, resumed[name]) for name, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "lora.rank is 0; it must be 1 or more"),
        ({"alpha": 0}, "lora.alpha is 0; it must be 1 or more"),
        ({"targets": ()}, "lora.targets is empty"),
        ({"targets": ("attn", "audio.to_q")}, "lora.targets has audio; .* trained in full"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LoraSettings(**changes)


def test_targets_are_parts_of_a_layer(make_objective):
    lora = LoraSettings(rank=2, targets=("attn.to_q", "norm1"))
    names = trained_names(make_objective("autoregressive", lora).networks["model"])
    linears = {name.split(".", 3)[3].partition(".lora_")[0] for name in names}
    assert linears == {"attn.to_q", "norm1.linear"}
    with pytest.raises(ValueError, match=r"lora.targets has atn, where no .* attn, audio, ff"):
        make_objective(lora=LoraSettings(rank=2, targets=("ff", "atn")))
