"""What an evaluation found, for people and for programs."""

import dataclasses
import json
import platform
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

import flowact
from flowact.evaluation.metrics import CLASSES
from flowact.evaluation.model_run import MODEL, ROUND_TRIP, ModelRun
from flowact.evaluation.probe import SHIPPED, load_probe
from flowact.evaluation.settings import EvaluateConfig
from flowact.evaluation.statistics import CONFIDENCE, RESAMPLES, Estimate
from flowact.evaluation.suites import Evaluation
from flowact.evaluation.takes import file_hash

# What the reader must know of a number to read it: its ideal, or its direction. In the order of the
# table, which the first clip's lack of speech must not change.
MEANING = {
    "lip_sync_r": "mouth openness, seen against true; 1 is best",
    "lip_sync_width_r": "the same of mouth width",
    "lip_sync_round_r": "the same of mouth rounding",
    "lip_sync_lag_s": "positive: the mouth is late",
    "lip_sync_pause": "openness in pauses over that in speech; 0 is closed",
    "state_accuracy": "intervals in which the state is seen that was asked",
    "action_accuracy": "intervals in which the action is seen that was asked",
    "identity_top1": "found among 100 alike; 1 is best",
    "sound_sync_r": "mouth against loudness, at the best lag",
    "sound_sync_pause": "mouth activity in pauses over that in speech; 0 is still",
    "av_offset_s": "mouth against loudness; positive: the picture is late",
    "sound_start_s": "where the file says that its sound begins",
    "drift_colour": "last quarter, dE in Lab; 0 is none, 2.3 is just seen",
    "drift_sharpness": "last quarter; 1 is unchanged",
    "drift_motion": "last over first quarter; 1 is unchanged",
    "drift_repetition": "1 is a loop",
    "drift_identity": "last quarter, cosine distance; 0 is none",
    "motion_energy": "mean frame difference, of 255",
    "seam_change": "frame difference at chunk borders over beside; 1 is none",
    "seam_jerk": "the same of second differences",
    "diversity": "spread of takes over that of true ones; 0 is collapse, 1 is true",
}

WIDTH = 12  # of a column of the table

# Below these an autoencoder, not the model of its latents, is what there is to be trained.
CEILING = {"lip_sync_r": 0.95, "action_accuracy": 0.97, "identity_top1": 0.99}


def describe_model(run: ModelRun, config: EvaluateConfig) -> dict[str, Any]:
    """``describe`` of the last column; then the others, and how much of the ceiling is reached."""
    *ceilings, last = run.columns
    told = describe(run.columns[last], config)
    told["made_by"]["streamed"] = run.streamed
    return told | {
        "measured": last,
        "ceilings": {
            name: {
                "scores": dict(run.columns[name].scores),
                "last_minute_and_first": dict(run.columns[name].minutes),
                "clips": run.columns[name].clips,
            }
            for name in ceilings
        },
        "of_ceiling": of_ceiling(run.columns),
    }


def of_ceiling(columns: Mapping[str, Evaluation]) -> dict[str, float]:
    """By metric, the model's score over that of the autoencoder's round trip."""
    if MODEL not in columns or ROUND_TRIP not in columns:
        return {}
    most, reached = columns[ROUND_TRIP].scores, columns[MODEL].scores
    both = [name for name in CEILING if name in most and name in reached]
    return {name: reached[name]["mean"] / most[name]["mean"] for name in both if most[name]["mean"]}


def describe(found: Evaluation, config: EvaluateConfig) -> dict[str, Any]:
    """All of an evaluation but its takes, and what made it, as JSON holds it."""
    return {
        "scores": dict(found.scores),
        "chance": found.chance,
        "last_minute_and_first": dict(found.minutes),
        "confusion": {
            kind: {"classes": CLASSES[kind], "asked_by_seen": counts.tolist()}
            for kind, counts in found.confusion.items()
        },
        "clips": found.clips,
        "left_out": found.left_out,
        "made_by": made_by(config),
    }


def made_by(config: EvaluateConfig) -> dict[str, Any]:
    """Settings, the probe by its hash and own errors, versions, and how intervals are made."""
    plain = json.dumps(dataclasses.asdict(config), default=_name)
    versions = {module.__name__: module.__version__ for module in (flowact, torch, np, av, cv2)}
    interval = f"percentile bootstrap over clips, {CONFIDENCE:.0%}, {RESAMPLES} resamples"
    told: dict[str, Any] = {
        "settings": json.loads(plain),
        "versions": versions | {"python": platform.python_version()},
        "interval": interval,
    }
    if config.probed:
        path = Path(config.probe or SHIPPED)
        told["probe"] = {"sha256": file_hash(path), "measured": load_probe(path).measured}
    return told


def table(columns: Mapping[str, Evaluation]) -> str:
    """One line a score: means of all columns, what more there is of the last, and what it means."""
    *_, found = columns.values()
    shares = of_ceiling(columns)
    headings = "".join(f"{name.replace('_', ' '):>{WIDTH}}" for name in columns)
    lines = [f"{'':22}{headings}{'95 % interval':>21}{'clips':>7}"]
    if shares:
        lines[0] += f"{'of ceiling':>{WIDTH}}"
    order = {name: place for place, name in enumerate(MEANING)}
    for name in sorted(found.scores, key=lambda name: order.get(name, len(order))):
        means = "".join(_mean(column, name) for column in columns.values())
        share = f"{shares[name]:>{WIDTH}.1%}" if name in shares else " " * WIDTH * bool(shares)
        figures = f"{means}{_interval(found.scores[name])}{share}"
        lines.append(f"{name:22}{figures}  {MEANING.get(name, '')}".rstrip())
    lines += _remarks(columns, found)
    return "\n".join(lines)


def _remarks(columns: Mapping[str, Evaluation], found: Evaluation) -> list[str]:
    """What else there is to know: chance, what is missing, and a ceiling that is low."""
    lines = [
        f"chance of {kind}: {levels['uniform']:.3f} by guessing, "
        f"{levels['commonest']:.3f} by the commonest"
        for kind, levels in found.chance.items()
    ]
    if found.minutes:
        head = f"{'':22}{'first minute':>14}{'last minute':>14}{'difference':>12}"
        lines.append(f"{head}{'':28}{'ratio':>8}")
    for name, change in found.minutes.items():
        figures = f"{change['first']['mean']:14.3f}{change['last']['mean']:14.3f}"
        difference, ratio = change["difference"], change["ratio"]
        shown = "" if ratio is None else f"{ratio['mean']:8.3f}{_interval(ratio)}"
        lines.append(f"{name:22}{figures}{difference['mean']:12.3f}{_interval(difference)}{shown}")
    if any(score["n"] == 1 for score in found.scores.values()):
        lines.append("a score of one clip has no interval")
    lines += [f"left out: {name}: {reason}" for name, reason in found.left_out.items()]
    ceiling = columns[ROUND_TRIP].scores if ROUND_TRIP in columns else {}
    lines += [
        f"the ceiling is low: {name} of the round trip is {ceiling[name]['mean']:.3f}, below "
        f"{bar}; train the autoencoder longer"
        for name, bar in CEILING.items()
        if name in ceiling and ceiling[name]["mean"] < bar
    ]
    return lines


def _mean(found: Evaluation, name: str) -> str:
    return f"{found.scores[name]['mean']:>{WIDTH}.3f}" if name in found.scores else " " * WIDTH


def _interval(score: Estimate) -> str:
    interval = f"{score['low']:.3f} to {score['high']:.3f}" if score["n"] > 1 else ""
    return f"{interval:>21}{score['n']:>7}"


def _name(value: Enum) -> str:
    return value.name
