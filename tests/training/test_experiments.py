"""Every experiment builds its stage, and optimisers that find the weights that it names."""

import pytest
from real_stages import TEACHER, make_data, tiny_model

from flowact.config import CONFIGS, load_config
from flowact.pipeline import FlowActPipeline
from flowact.training.optimiser import make_optimisers
from flowact.training.settings import TrainConfig
from flowact.training.stages import build

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
FOLDERS = {
    "guidance": "guidance_distillation",
    "steps": "step_distillation",
    "audio_motion_lora": "audio_motion",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny weights, others that are distilled for guidance, and clips for both."""
    folder = tmp_path_factory.mktemp("experiments")
    make_data(folder / "data")
    FlowActPipeline.untrained(tiny_model("vae"), seed=0).save_pretrained(folder / "weights")
    return folder


def words_of(experiment, folder):
    yield from (f"experiment={experiment}", f"output={folder / 'run'}")
    distilled = experiment in ("steps", "dmd")
    yield f"weights={folder / 'data' / TEACHER if distilled else folder / 'weights'}"
    if experiment not in ("vae", "vae_decoder", "vae_thin", "text", "speech"):
        yield f"{FOLDERS.get(experiment, experiment)}.folders=[{folder / 'data'}]"
    if experiment == "dmd":
        yield from (f"dmd.teacher={folder / 'data' / TEACHER}", "dmd.ticks=3")  # of short clips


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_builds(folder, experiment):
    config = load_config("train", [*words_of(experiment, folder)], TrainConfig)
    objective = build(config)
    for role in objective.trained:
        trained = {id(p) for p in objective.networks[role].parameters() if p.requires_grad}
        optimisers = make_optimisers(objective.networks[role], config.optimiser)
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        assert {id(p) for group in groups for p in group["params"]} == trained
