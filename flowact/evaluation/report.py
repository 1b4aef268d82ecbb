"""What an evaluation found, for people and for programs."""

import dataclasses
import platform
from enum import Enum
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

import flowact
from flowact.evaluation.metrics import CLASSES
from flowact.evaluation.probe import SHIPPED, load_probe
from flowact.evaluation.statistics import CONFIDENCE, RESAMPLES, Estimate
from flowact.evaluation.suites import Evaluation
from flowact.evaluation.takes import file_hash
from flowact.runs import EvaluateConfig, Mouth, Suite

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


def describe(found: Evaluation, config: EvaluateConfig) -> dict[str, Any]:
    """All of an evaluation but its takes, and what made it, as JSON holds it."""
    return {
        "scores": dict(found.scores),
        "chance": found.chance,
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
    settings = dataclasses.asdict(config)
    versions = {module.__name__: module.__version__ for module in (flowact, torch, np, av, cv2)}
    interval = f"percentile bootstrap over clips, {CONFIDENCE:.0%}, {RESAMPLES} resamples"
    told: dict[str, Any] = {
        "settings": {k: v.name if isinstance(v, Enum) else v for k, v in settings.items()},
        "versions": versions | {"python": platform.python_version()},
        "interval": interval,
    }
    if config.suite is Suite.actors or config.mouth is Mouth.probe:
        path = Path(config.probe or SHIPPED)
        told["probe"] = {"sha256": file_hash(path), "measured": load_probe(path).measured}
    return told


def table(found: Evaluation) -> str:
    """One line a score: mean, confidence interval, clips, and what it means."""
    lines = [f"{'':22}{'mean':>9}{'95 % interval':>21}{'clips':>7}"]
    order = {name: place for place, name in enumerate(MEANING)}
    for name in sorted(found.scores, key=lambda name: order.get(name, len(order))):
        lines.append(_line(name, found.scores[name]))
    for kind, levels in found.chance.items():
        lines.append(
            f"chance of {kind}: {levels['uniform']:.3f} by guessing, "
            f"{levels['commonest']:.3f} by the commonest"
        )
    if any(score["n"] == 1 for score in found.scores.values()):
        lines.append("a score of one clip has no interval")
    lines += [f"left out: {name}: {reason}" for name, reason in found.left_out.items()]
    return "\n".join(lines)


def _line(name: str, score: Estimate) -> str:
    interval = f"{score['low']:.3f} to {score['high']:.3f}" if score["n"] > 1 else ""
    figures = f"{score['mean']:>9.3f}{interval:>21}{score['n']:>7}"
    return f"{name:22}{figures}  {MEANING.get(name, '')}".rstrip()
