"""The one crossing from the command line, by Hydra, to the dataclasses of runs and settings.

Nothing below this file imports hydra or omegaconf.
"""

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional, TypeVar, cast, get_args, get_origin

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from flowact import runs, settings
from flowact.ablations import AblateConfig
from flowact.data import settings as data
from flowact.data.actors import settings as actors
from flowact.evaluation import settings as evaluation
from flowact.index import DEMO
from flowact.sweeps import SweepConfig
from flowact.training import settings as training
from flowact.training.distill_settings import DistillationConfig
from flowact.training.window_settings import GenerateLatentsConfig

CONFIGS = Path(__file__).parents[1] / "configs"

SCHEMAS: dict[str, type[Any]] = {
    "sample": runs.SampleConfig,
    "benchmark": runs.BenchmarkConfig,
    "gpu_suite": runs.GpuSuiteConfig,
    "import_hunyuan15": runs.ImportConfig,
    "train_probe": evaluation.TrainProbeConfig,
    "evaluate": evaluation.EvaluateConfig,
    "make_actors": actors.MakeActorsConfig,
    "show_windows": runs.ShowWindowsConfig,
    "preprocess": data.PreprocessConfig,
    "check_manifest": data.CheckManifestConfig,
    "train": training.TrainConfig,
    "export": training.ExportConfig,
    "make_generated_latents": GenerateLatentsConfig,
    "memory": runs.MemoryConfig,
    "report_distillation": DistillationConfig,
    "ablate": AblateConfig,
    "sweep": SweepConfig,
}

# Presets that come with weights, and the configs that take them where nothing else is said.
SHIPPED = {"demo": DEMO}
TAKE_SHIPPED = ("sample", "evaluate", "preprocess")

ERRORS = (HydraException, OmegaConfBaseException)

# Hydra merges a node only into the very class that it was made of.
TWINS: dict[type[Any], type[Any]] = {}

T = TypeVar("T")


def load_config(name: str, words: Sequence[str], kind: type[T]) -> T:
    """``configs/NAME.yaml`` under ``words`` (``key=value``), checked and typed.

    An empty text, or null, is as if it had not been given. What streams and encodes has the weights
    that its preset comes with, unless a word changes the preset.

    Raises:
        ValueError: a word is malformed or names no key (the nearest one is named); a value is
            missing, of the wrong type or out of range; or two values exclude each other.
    """
    composed = _compose(name, words)
    if missing := sorted(OmegaConf.missing_keys(composed)):
        raise ValueError(f"{missing[0]} is missing; give {' '.join(f'{m}=...' for m in missing)}")
    if composed.get("weights") is not None:
        _check_no_model(words)
    elif name in TAKE_SHIPPED and not any(word.startswith("model.") for word in words):
        _take_shipped(composed, kind)
    return _cross(composed, kind)


def restore_config(values: dict[str, Any], kind: type[T]) -> T:
    """A config that was written down as plain values, enums by their names.

    Raises:
        ValueError: the values are not those of ``kind``.
    """
    try:
        return _cross(
            cast(DictConfig, OmegaConf.merge(OmegaConf.structured(_twin(kind)), values)), kind
        )
    except ERRORS as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"the config is not one of this version: {reason}") from error


def load_preset(name: str) -> settings.ModelConfig:
    """``configs/model/NAME.yaml``, for ``FlowActPipeline.untrained``.

    Raises:
        ValueError: there is no such preset.
    """
    composed = _compose("sample", [f"model={name}"])
    return _cross(composed.model, settings.ModelConfig)


def describe(name: str) -> str:
    """The keys of ``configs/NAME.yaml``: what each means, then all with their values as YAML."""
    presets = [f"Presets of {group}: {', '.join(_presets(group))}" for group in _groups(name)]
    values = OmegaConf.to_yaml(_compose(name, []))
    return "\n\n".join((*_explained(SCHEMAS[name]), *presets, values))


def _compose(name: str, words: Sequence[str]) -> DictConfig:
    """The file under words of which each is checked: Hydra would add keys, and change its own."""
    _register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        groups = _groups(name)
        chosen = [word for word in words if word.partition("=")[0] in groups and "=" in word]
        presets = [_checked_preset(word) for word in chosen]
        keys = [*_leaves(_composed_presets(name, presets)), *groups]
        for word in words:
            _check_key(word, keys)
        try:
            return compose(name, [_quoted(word, SCHEMAS[name]) for word in words])
        except ERRORS:
            for word in words:
                _check_value(name, presets, word)
            raise


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
        if (own := _dataclass_in(f.type)) is not None:
            inner = _twin(own)
            if f.default is None:
                fields.append((f.name, Optional[inner], None))  # noqa: UP045 (inner is a value)
            else:
                filled: Callable[[], Any] = inner
                if f.default_factory is not dataclasses.MISSING:
                    filled = partial(_filled, inner, f.default_factory)
                fields.append((f.name, inner, dataclasses.field(default_factory=filled)))
        elif f.default_factory is not dataclasses.MISSING:
            fields.append((f.name, f.type, dataclasses.field(default_factory=f.default_factory)))
        else:
            default = MISSING if f.default is dataclasses.MISSING else f.default
            fields.append((f.name, f.type, dataclasses.field(default=default)))
    TWINS[kind] = dataclasses.make_dataclass(kind.__name__, fields)
    return TWINS[kind]


def _filled(twin: type[Any], default: Callable[[], Any]) -> Any:
    """A default as ``twin`` holds it: not always that of its class."""
    value = default()
    own = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    for name, inner in own.items():
        if dataclasses.is_dataclass(inner):
            own[name] = _filled(_twin(type(inner)), partial(getattr, value, name))
    return twin(**own)


def _cross(node: DictConfig, kind: type[T]) -> T:
    """A node of ``_twin(kind)`` as ``kind``, tuples as tuples."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = node[f.name]
        if (inner := _dataclass_in(f.type)) is not None:
            value = None if value is None else _cross(value, inner)
        elif isinstance(value, DictConfig | ListConfig):
            plain: Any = OmegaConf.to_container(value)
            value = tuple(plain) if get_origin(f.type) is tuple else plain
        values[f.name] = value
    return kind(**values)


def _dataclass_in(kind: Any) -> type[Any] | None:
    """The dataclass that ``kind`` is, or may be instead of None; else None."""
    kinds = [k for k in (kind, *get_args(kind)) if isinstance(k, type)]
    return next((k for k in kinds if dataclasses.is_dataclass(k)), None)


def _quoted(word: str, kind: type[Any]) -> str:
    """Quote a string's value, so that prompts and file names may hold any character."""
    key, _, value = word.partition("=")
    texts = {f.name: f.default for f in dataclasses.fields(kind) if f.type in (str, str | None)}
    if key not in texts:
        return word
    if value in ("null", ""):
        unset = {dataclasses.MISSING: MISSING, None: "null"}
        return f"{key}={unset.get(texts[key], texts[key])}"
    # In Hydra's quotes a backslash stands for itself, but before a quote, the end, or "${".
    escaped = re.sub(r"(\\*)('|\$\{|$)", lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), value)
    return f"{key}='{escaped}'"


def _groups(name: str) -> list[str]:
    """The folders of presets among which ``configs/NAME.yaml`` chooses, such as model."""
    file: Any = OmegaConf.load(CONFIGS / f"{name}.yaml")
    chosen = [entry for entry in file.defaults if isinstance(entry, DictConfig)]
    return [str(group) for entry in chosen for group in entry]


def _presets(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _checked_preset(word: str) -> str:
    group, _, preset = word.partition("=")
    if preset not in _presets(group):
        raise ValueError(f"{word}: there is no such preset; there are {', '.join(_presets(group))}")
    return word


def _composed_presets(name: str, presets: Sequence[str]) -> Any:
    """The file under presets, as plain values.

    Raises:
        ValueError: what is wrong in which file.
    """
    try:
        return OmegaConf.to_container(compose(name, list(presets)))
    except ConfigCompositionException as error:
        cause = error.__context__
        if not isinstance(cause, OmegaConfBaseException):  # such as of a preset that is not there
            raise ValueError(str(error).partition("\n")[0]) from error
        _, preset, _ = str(error).split("'", 2)
        key, reason = str(cause.full_key), str(cause).partition("\n")[0]
        if isinstance(cause, ConfigKeyError):
            schema = OmegaConf.structured(_twin(SCHEMAS[name]))
            reason = _no_key(key, _leaves(OmegaConf.to_container(schema)))
        elif key:
            reason = f"{key}: {reason}"
        raise ValueError(f"{CONFIGS / preset}.yaml: {reason}") from error


def _check_key(word: str, keys: Sequence[str]) -> None:
    key, equals, _ = word.partition("=")
    if not equals:
        raise ValueError(f"{word!r} is not key=value")
    if key not in keys:
        raise ValueError(_no_key(key, keys))


def _no_key(key: str, keys: Sequence[str]) -> str:
    inside = [k for k in keys if k.startswith(f"{key}.")]
    near = inside or difflib.get_close_matches(key, keys, n=1)
    hint = f"the nearest is {near[0]}" if near else "run with --help to see all"
    return f"there is no key {key}; {hint}"


def _check_value(name: str, presets: Sequence[str], word: str) -> None:
    try:
        compose(name, [*presets, _quoted(word, SCHEMAS[name])])
    except ERRORS as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(f"{word}: {reason}") from error


def _take_shipped(composed: DictConfig, kind: type[Any]) -> None:
    """Give the weights of the chosen preset, where it comes with some; in its place, if that may be
    empty."""
    if composed.model is not None and composed.model.name in SHIPPED:
        composed.weights = str(SHIPPED[composed.model.name])
        if {f.name: f.default for f in dataclasses.fields(kind)}["model"] is None:
            composed.model = None


def _check_no_model(words: Sequence[str]) -> None:
    for word in words:
        if word.startswith(("model=", "model.")):
            raise ValueError(
                f"{word} describes an untrained model, and weights=... brings its own; leave one "
                "out (how it is streamed is set by stream.*)"
            )


def _leaves(tree: Any, key: str = "") -> list[str]:
    """The keys that hold values and not further keys."""
    if not isinstance(tree, dict) or not tree:
        return [key]
    return [leaf for k, v in tree.items() for leaf in _leaves(v, f"{key}.{k}" if key else str(k))]


def _explained(kind: type[Any], key: str = "") -> Iterator[str]:
    """What the docstrings of ``kind``, of its bases and of its parts say about their attributes."""
    for base in kind.__mro__[:-1]:
        doc = inspect.cleandoc(base.__doc__ or "")
        title = f"{key}: {doc.splitlines()[0]}" if key else ""
        attributes = doc.partition("Attributes:\n")[2].partition("\n\n")[0]
        yield "\n".join(filter(None, (title, attributes)))
    for f in dataclasses.fields(kind):
        if (inner := _dataclass_in(f.type)) is not None:
            yield from _explained(inner, f"{key}.{f.name}" if key else f.name)
