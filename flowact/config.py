"""The one crossing from the command line, by Hydra, to the dataclasses of ``flowact.settings``.

Nothing below this file imports hydra or omegaconf.
"""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowact import settings

CONFIGS = Path(__file__).parents[1] / "configs"

SCHEMAS: dict[str, type[Any]] = {
    "sample": settings.SampleConfig,
    "benchmark": settings.BenchmarkConfig,
    "import_hunyuan15": settings.ImportConfig,
}

# Hydra merges a node only into the very class that it was made of.
TWINS: dict[type[Any], type[Any]] = {}

T = TypeVar("T")


def load_config(name: str, overrides: Sequence[str], kind: type[T]) -> T:
    """``configs/NAME.yaml`` under ``overrides`` (``key=value``), checked and typed.

    Raises:
        ValueError: an override is malformed or names no key (the nearest one is named), or a
            value is missing, of the wrong type or out of range.
    """
    composed = _compose(name, overrides)
    if missing := sorted(OmegaConf.missing_keys(composed)):
        raise ValueError(f"{missing[0]} is missing; give {' '.join(f'{m}=...' for m in missing)}")
    return _cross(composed, kind)


def describe(name: str) -> str:
    """The keys of ``configs/NAME.yaml`` with their values, as YAML."""
    return OmegaConf.to_yaml(_compose(name, []))


def _compose(name: str, overrides: Sequence[str]) -> DictConfig:
    _register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            return compose(name, [_quoted(override, SCHEMAS[name]) for override in overrides])
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(_explain(error, name, overrides)) from error


def _register() -> None:
    store = ConfigStore.instance()
    for name, kind in SCHEMAS.items():
        store.store(f"{name}_schema", _twin(kind))
    store.store("model_schema", _twin(settings.ModelConfig), group="model")


def _twin(kind: type[Any]) -> type[Any]:
    """``kind`` for Hydra to fill: not frozen, and what has no default is missing."""
    if kind in TWINS:
        return TWINS[kind]
    fields: list[tuple[str, Any, Any]] = []
    for f in dataclasses.fields(kind):
        if dataclasses.is_dataclass(f.type):
            inner = _twin(cast(type[Any], f.type))
            fields.append((f.name, inner, dataclasses.field(default_factory=inner)))
        elif f.default_factory is not dataclasses.MISSING:
            fields.append((f.name, f.type, dataclasses.field(default_factory=f.default_factory)))
        else:
            default = MISSING if f.default is dataclasses.MISSING else f.default
            fields.append((f.name, f.type, dataclasses.field(default=default)))
    TWINS[kind] = dataclasses.make_dataclass(kind.__name__, fields)
    return TWINS[kind]


def _cross(node: DictConfig, kind: type[T]) -> T:
    """A node of ``_twin(kind)`` as ``kind``, tuples as tuples."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = node[f.name]
        if dataclasses.is_dataclass(f.type):
            value = _cross(value, f.type)  # type: ignore[arg-type]
        elif isinstance(value, DictConfig | ListConfig):
            plain: Any = OmegaConf.to_container(value)
            value = tuple(plain) if get_origin(f.type) is tuple else plain
        values[f.name] = value
    return kind(**values)


def _quoted(override: str, kind: type[Any]) -> str:
    """Quote a string's value, so that prompts and file names may hold any character."""
    key, equals, value = override.partition("=")
    texts = {f.name for f in dataclasses.fields(kind) if f.type in (str, str | None)}
    if not equals or key not in texts or value in ("null", ""):
        return override
    # In Hydra's quotes a backslash stands for itself, but before a quote, the end, or "${".
    escaped = re.sub(r"(\\*)('|\$\{|$)", lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), value)
    return f"{key}='{escaped}'"


def _explain(error: Exception, name: str, overrides: Sequence[str]) -> str:
    """One line that names the override, and the nearest key or option if it has none such."""
    keys = _keys(OmegaConf.to_container(compose(name)))
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if "=" not in override:
            return f"{override!r} is not key=value"
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.4)
            hint = f"the nearest is {near[0]}" if near else "run with --help to see all"
            return f"there is no key {key}; {hint}"
        group = CONFIGS / key
        options = sorted(path.stem for path in group.glob("*.yaml")) if group.is_dir() else []
        value = override.partition("=")[2]
        if options and value not in options:
            return f"{key}={value}: there is no such {key}; there are {', '.join(options)}"
    return _first_line(error)


def _keys(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return []
    return [
        full
        for key, value in tree.items()
        for full in (f"{prefix}{key}", *_keys(value, f"{prefix}{key}."))
    ]


def _first_line(error: BaseException) -> str:
    """Hydra's first line, which names the override, and its cause's, which says what is wrong."""
    lines = [str(e).strip().partition("\n")[0] for e in (error, error.__cause__) if e is not None]
    return ": ".join(line.removeprefix("Error merging override ") for line in lines)
