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
from flowact.training.roles import AVERAGE, frozen_names

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
NOT_FROZEN = StateDictOptions(strict=False)

Optimisers = Mapping[str, list[Optimizer]]


def training_state(objective: Objective[Any], optimisers: Optimisers) -> dict[str, Any]:
    """All that a run goes on with, by name: trained networks, averages and their optimisers.

    Frozen parameters are not in it: a run has them from where it began.
    """
    state: dict[str, Any] = {}
    for role in objective.trained:
        frozen = frozen_names(objective.networks[role])
        for kept in _kept(objective, role):
            for name, value in get_model_state_dict(objective.networks[kept]).items():
                if name not in frozen:
                    state[f"networks/{kept}/{name}"] = value
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
    for role in objective.trained:
        for kept in _kept(objective, role):
            values = _under(f"networks/{kept}/", state)
            set_model_state_dict(objective.networks[kept], values, options=NOT_FROZEN)
    for role, own in optimisers.items():
        values = _under(f"optimisers/{role}/", state)
        set_optimizer_state_dict(objective.networks[role], own, values, options=FLAT)


def _kept(objective: Objective[Any], role: str) -> tuple[str, ...]:
    """A trained role, and its average if it has one."""
    return (role, role + AVERAGE) if role in objective.averaged else (role,)


def _under(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
