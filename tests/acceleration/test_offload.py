"""Layers have their weights for the time of their call, and not otherwise."""

import pytest
import torch
from tiny import tiny_config

from flowact.acceleration.offload import Visitors, offload_pipeline
from flowact.pipeline import FlowActPipeline


class Copies(Visitors):
    """Weights on the device are copies, as they are on a GPU."""

    def _fetch(self, place):
        return [home.clone() for home in self._homes[place]]


def latents(pipeline):
    session = pipeline.session("flowact/assets/person.png", "She waves.")
    session.push(torch.randn(4 * 12 * 640, generator=torch.Generator().manual_seed(0)) / 10)
    ticks = [session.tick(session.conditions()) for _ in range(3)]
    return torch.cat([tick.estimates.flatten() for tick in ticks])


def test_a_stream_of_visiting_weights_is_the_same():
    pipeline = FlowActPipeline.untrained(tiny_config())
    before = latents(pipeline)
    blocks = list(pipeline.transformer.blocks)
    homes = [weight.data_ptr() for block in blocks for weight in block.parameters()]
    layers = Copies(blocks, torch.device("cpu"))
    away = []
    for place, block in enumerate(blocks):
        run_video = block.run_video

        def watched(*inputs, block=block, run_video=run_video):
            away.append([w.data_ptr() in homes for b in blocks for w in b.parameters()])
            return run_video(*inputs)

        block.run_video = layers.visit(place, watched)
        block.run_text = layers.visit(place, block.run_text)
    assert torch.equal(latents(pipeline), before)
    assert [w.data_ptr() for block in blocks for w in block.parameters()] == homes
    size = len(list(blocks[0].parameters()))
    assert away[0] == [False] * size + [True] * (len(homes) - size)
    assert away[1] == [True] * size + [False] * (len(homes) - size)


def test_what_a_visit_raises_leaves_weights_at_home():
    layer = torch.nn.Linear(2, 2)
    home = layer.weight.data_ptr()

    def fails(x):
        raise RuntimeError(f"away: {layer.weight.data_ptr() != home}")

    with pytest.raises(RuntimeError, match="away: True"):
        Copies([layer], torch.device("cpu")).visit(0, fails)(1)
    assert layer.weight.data_ptr() == home


def test_it_is_for_gpus():
    pipeline = FlowActPipeline.untrained(tiny_config())
    with pytest.raises(ValueError, match="offload=true is for a GPU"):
        offload_pipeline(pipeline, torch.device("cpu"))
