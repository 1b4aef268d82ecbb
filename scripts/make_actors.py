"""Make a data set of actors, people whose every motion is known: videos, manifest and truth.

    python scripts/make_actors.py output=DIR clips=100 [seconds=10] [seed=0] [resolution=128]

The same words again go on where a run was stopped. Processes that torchrun or SLURM start share the
clips out.
"""

from pathlib import Path

from flowact.cli import RESUMES, main
from flowact.data.actors.settings import MakeActorsConfig


def work(config: MakeActorsConfig) -> None:
    from flowact.data.actors.dataset import Recipe, write_dataset
    from flowact.ranks import rank_and_world

    recipe = Recipe.of(config)
    print(f"{recipe.clips} clips of {recipe.frames} frames, speech by {recipe.synthesiser}")
    rank, world = rank_and_world()
    made = write_dataset(Path(config.output), recipe, config.workers, (rank, world))
    print(f"{config.output}: {len(made)} videos and their truth")


if __name__ == "__main__":
    main("make_actors", MakeActorsConfig, work, __doc__, RESUMES)
