"""Which of how many processes this is."""

import os

VARIABLES = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


def rank_and_world() -> tuple[int, int]:
    """This process among how many, as torchrun, accelerate or SLURM tell; else the only one.

    Raises:
        ValueError: what they tell makes no sense.
    """
    for rank, world in VARIABLES:
        if rank in os.environ and world in os.environ:
            told = os.environ[rank], os.environ[world]
            if all(text.isdecimal() for text in told) and int(told[0]) < int(told[1]):
                return int(told[0]), int(told[1])
            raise ValueError(
                f"{rank} is {told[0]} and {world} is {told[1]}; ranks are 0 to {world} - 1"
            )
    return 0, 1
