"""Whether values read from JSON have the form of a dataclass; if not, where, and the mend."""

import dataclasses
import difflib
import reprlib
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, get_args, get_origin

Finding = tuple[str, str]
"""A field, such as ``intervals[2].end``, and what is wrong with it; no field is the whole value."""

SCALARS = {
    float: ((int, float), "a finite number"),
    int: ((int,), "a whole number"),
    str: ((str,), "a text"),
}
# Larger numbers are no time, size or count; NaN and infinity are not below it.
LARGEST = 2.0**63


def form_findings(values: Any, kind: type[Any], prefix: str = "") -> Iterator[Finding]:
    """Unknown, missing and ill-typed keys of an object for the dataclass ``kind``.

    Fields may be text, numbers, dataclasses, tuples and mappings of these, and None where the
    dataclass allows it.
    """
    if not isinstance(values, dict):
        yield prefix.rstrip("."), f"is {reprlib.repr(values)}; it must be an object {{...}}"
        return
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            mend = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(fields)}"
            yield prefix + key, f"is an unknown key; {mend}"
    for name, f in fields.items():
        if name in values:
            yield from _value(values[name], f.type, prefix + name)
        elif f.default is dataclasses.MISSING:
            yield prefix + name, "is missing; add it"


def _value(value: Any, kind: Any, field: str) -> Iterator[Finding]:
    if NoneType in get_args(kind):
        if value is None:
            return
        kind = next(option for option in get_args(kind) if option is not NoneType)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            yield field, f"is {reprlib.repr(value)}; it must be a list [...]"
            return
        for index, item in enumerate(value):
            yield from _value(item, get_args(kind)[0], f"{field}[{index}]")
    elif get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            yield field, f"is {reprlib.repr(value)}; it must be an object {{...}}"
            return
        for key, item in value.items():
            yield from _value(item, get_args(kind)[1], f"{field}.{key}")
    elif dataclasses.is_dataclass(kind):
        yield from form_findings(value, kind, f"{field}.")  # type: ignore[arg-type]
    else:
        yield from _scalar(value, kind, field)


def _scalar(value: Any, kind: Any, field: str) -> Iterator[Finding]:
    types, wanted = SCALARS[kind]
    fits = type(value) in types and (kind is str or abs(value) < LARGEST)
    if not fits:
        yield field, f"is {reprlib.repr(value)}; it must be {wanted}"
