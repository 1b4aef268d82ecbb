"""The text encoder learns to read, and it alone is kept."""

import pytest
import torch
from tiny import tiny_config
from window_training import make_draws

from flowact.config import load_preset
from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.pipeline import FlowActPipeline
from flowact.training.objectives.text import CaptionsDataset, build_text
from flowact.training.settings import TrainConfig

SAID = {"point_left": "left", "point_right": "right", "thumbs_up": "thumb"}


def make_objective(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_text(
            TrainConfig(**{"model": tiny_config(), "stage": "text", "output": ""} | changes)
        )


def test_labels_are_what_captions_say():
    samples = [CaptionsDataset(0)[n] for n in range(200)]
    actions = [ACTIONS[sample.actions] for sample in samples]
    for sample, action in zip(samples, actions, strict=True):
        assert SAID.get(action, "") in sample.texts[0]
    assert set(actions) == set(ACTIONS)
    assert {STATES[sample.states] for sample in samples} == set(STATES)


def test_a_sample_is_a_function_of_its_number_and_a_split_has_words_of_its_own():
    first, again = CaptionsDataset(0), CaptionsDataset(0)
    assert [first[n].texts for n in range(20)] == [again[n].texts for n in (range(20))]
    unseen = {CaptionsDataset(0, "validation")[n].texts for n in range(200)}
    assert not unseen & {first[n].texts for n in range(200)}


def test_captions_are_learnt_by_heart():
    objective = make_objective()
    batch = objective.collate([objective.dataset[n] for n in range(16)])
    reader = objective.networks["reader"]
    optimiser = torch.optim.AdamW(reader.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        losses.append(objective.loss("reader", batch, make_draws(range(16))))
        optimiser.zero_grad()
        losses[-1].total.backward()
        optimiser.step()
    assert losses[0].total > 2.5  # a guess among 4 and among 9 costs log 4 + log 9 = 3.6
    assert losses[-1].total < 0.5
    assert losses[-1].parts == {"state": 1.0, "action": 1.0}
    assert set(objective.preview(None, 0)) == {"unseen_state", "unseen_action"}


def test_what_is_learnt_is_in_the_pipeline_and_can_be_trained_on(tmp_path):
    objective = make_objective()
    with torch.no_grad():
        for weight in objective.networks["reader"].parameters():
            weight.add_(0.1)
    pipeline = FlowActPipeline.untrained(tiny_config())
    objective.install(pipeline)
    pipeline.save_pretrained(tmp_path / "weights")
    again = make_objective(weights=str(tmp_path / "weights"))
    text = ["She waves."]
    with torch.no_grad():
        assert torch.equal(
            pipeline.text_encoder.encode(text).embeds,
            again.networks["reader"].encoder.encode(text).embeds,
        )


def test_another_text_encoder_is_refused():
    with pytest.raises(ValueError, match="only byte_t5 is trained here"):
        make_objective(model=load_preset("hunyuan15"))
