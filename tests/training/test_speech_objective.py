"""The audio adapter learns to hear mouths, and it alone is kept."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from window_training import make_draws

from flowact.data.actors.speech import best_synthesiser, make_soundtrack
from flowact.data.splits import seeds_of
from flowact.pipeline import FlowActPipeline
from flowact.streaming.audio import AudioExtractor
from flowact.training.objectives.speech import CHUNKS, MOUTH, SpeechDataset, build_speech
from flowact.training.settings import TrainConfig

GEOMETRY = tiny_config().geometry


def make_objective(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_speech(
            TrainConfig(**{"model": tiny_config(), "stage": "speech", "output": ""} | changes)
        )


def make_dataset(split):
    pipeline = FlowActPipeline.untrained(tiny_config())
    return SpeechDataset(AudioExtractor(pipeline.audio_encoder, GEOMETRY), 0, split)


def test_mouths_are_shut_in_silence_and_move_in_speech():
    sample = make_dataset("validation")[1]
    frames = GEOMETRY.temporal_stride
    assert sample.mouth.shape == (1, CHUNKS * GEOMETRY.chunk_latents, frames, len(MOUTH))
    assert sample.features.shape[:3] == (1, CHUNKS * GEOMETRY.chunk_latents, GEOMETRY.latent_window)
    level = sample.features[0].mean(dim=(1, 2))
    shut = (sample.mouth[0].abs() < 1e-3).all(dim=1).all(dim=1)
    assert 0 < shut.float().mean() < 0.5
    assert level[~shut].mean() > level[shut].mean() + 0.3  # of features that vary by about 1


def test_a_sample_is_a_function_of_its_number_and_a_split_has_voices_of_its_own():
    dataset, again = make_dataset("train"), make_dataset("train")
    for n in (0, 1):
        assert torch.equal(dataset[n].features, again[n].features)
    assert not torch.equal(dataset[0].mouth, dataset[2].mouth)
    voices = {
        split: {
            make_soundtrack([(0, 2)], 2, seeds_of(split)[n], best_synthesiser()).voice
            for n in range(20)
        }
        for split in ("train", "validation")
    }
    assert not voices["train"] & voices["validation"]


def test_mouths_are_learnt_by_heart():
    objective = make_objective()
    batch = objective.collate([objective.dataset[n] for n in range(2)])
    reader = objective.networks["reader"]
    optimiser = torch.optim.AdamW(reader.parameters(), lr=3e-4)
    losses = []
    for _ in range(160):
        losses.append(objective.loss("reader", batch, make_draws(range(2))).total)
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    guess = batch.mouth.var(dim=(0, 1, 2), unbiased=False).mean()  # the error of the mean
    assert losses[0] > guess
    assert losses[-1] < 0.2 * guess


def test_what_is_learnt_is_in_the_pipeline_and_can_be_trained_on(tmp_path):
    objective = make_objective()
    with torch.no_grad():
        for weight in objective.networks["reader"].parameters():
            weight.add_(0.1)
    pipeline = FlowActPipeline.untrained(tiny_config())
    objective.install(pipeline)
    pipeline.save_pretrained(tmp_path / "weights")
    again = make_objective(weights=str(tmp_path / "weights")).networks["reader"].projector
    assert again.state_dict().keys() == objective.networks["reader"].projector.state_dict().keys()
    for name, weight in objective.networks["reader"].projector.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_a_model_that_does_not_hear_is_refused():
    model = tiny_config()
    deaf = replace(model, transformer=replace(model.transformer, audio_feature_dim=None))
    with pytest.raises(ValueError, match="tiny has no audio adapter"):
        make_objective(model=deaf)
