"""All that a run goes on with, as tensors by name, whether networks are whole, wrapped or sharded.

Nothing random is in it: draws are keyed.
"""

from collections.abc import Mapping
from typing import Any

from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from flowact.training.objective import Objective
from flowact.training.roles import AVERAGE

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)

Optimisers = Mapping[str, list[Optimizer]]


def training_state(objective: Objective[Any], optimisers: Optimisers) -> dict[str, Any]:
    """All that a run goes on with, by name: trained networks, averages and their optimisers."""
    state: dict[str, Any] = {}
    for role in (*objective.trained, *(role + AVERAGE for role in objective.averaged)):
        for name, value in get_model_state_dict(objective.networks[role]).items():
            state[f"networks/{role}/{name}"] = value
    for role, own in optimisers.items():
        values = get_optimizer_state_dict(objective.networks[role], own, options=FLAT)
        state |= {f"optimisers/{role}/{name}": value for name, value in values.items()}
    return state


def fill(objective: Objective[Any], optimisers: Optimisers) -> None:
    """Give new optimisers their state, so that no later save does.

    Torch fills an empty one when it is asked for, by a step that changes nothing but is counted.
    """
    training_state(objective, optimisers)
    for own in optimisers.values():
        for values in (values for optimiser in own for values in optimiser.state.values()):
            if "step" in values:
                values["step"].zero_()


def restore(objective: Objective[Any], optimisers: Optimisers, state: dict[str, Any]) -> None:
    """``training_state`` undone."""
    for role in (*objective.trained, *(role + AVERAGE for role in objective.averaged)):
        set_model_state_dict(objective.networks[role], _under(f"networks/{role}/", state))
    for role, own in optimisers.items():
        values = _under(f"optimisers/{role}/", state)
        set_optimizer_state_dict(objective.networks[role], own, values, options=FLAT)


def _under(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
