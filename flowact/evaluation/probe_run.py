"""The whole making of a probe, resumable: frames, networks, signals, and its errors."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from flowact.data.actors.dataset import Recipe, write_dataset
from flowact.evaluation import probe_training as training
from flowact.evaluation.probe import Probe, save_probe
from flowact.evaluation.probe_frames import read_frames, write_frames
from flowact.evaluation.probe_networks import FACE_TARGETS, IDENTITY_DIM, VIEW_SIZE
from flowact.evaluation.settings import EvaluateConfig, Suite, TrainProbeConfig
from flowact.evaluation.statistics import correlation
from flowact.evaluation.suites import evaluate
from flowact.evaluation.takes import ActorTake
from flowact.geometry import Geometry
from flowact.workers import end_with_parent

PARTS = ("body", "expression", "person", "behaviour")
SIGNALS_FROM = 700_000  # seeds of the training split that no group of frames comes near
HELD_OUT = 950_000  # of the test split
HELD_OUT_SECONDS = 20.0
SCORES = (
    "lip_sync_r",
    "lip_sync_lag_s",
    "state_accuracy",
    "action_accuracy",
    "identity_top1",
    "drift_identity",
)


def train_probe(config: TrainProbeConfig) -> Probe:
    """Make what is not there yet in ``config.work``, put the probe together and measure it."""
    work = Path(config.work)
    frames, seen = work / "frames", work / "signals"
    frames.mkdir(parents=True, exist_ok=True)
    seen.mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _start_worker) as pool:
        _all(pool, write_frames, [(frames, seed) for seed in range(config.groups)], "frames")
        parts = PARTS[:3]
        _all(pool, _train_part, [(work, part, config.steps) for part in parts], "networks")
        _all(pool, _write_signals, [(work, seed, config) for seed in _clips(config)], "signals")
        _all(pool, _train_part, [(work, "behaviour", config.behaviour_steps)], "behaviour")
    probe = assemble(work, PARTS)
    probe.measured = measure(probe, work, config.held_out, config.workers)
    return probe


def assemble(work: Path, parts: Iterable[str]) -> Probe:
    """A probe of the trained ``parts`` in ``work``; the others are untrained."""
    probe = Probe()
    for part in parts:
        getattr(probe, part).load_state_dict(load_file(work / f"{part}.safetensors"))
    return probe.eval()


def measure(probe: Probe, work: Path, clips: int, workers: int | None) -> dict[str, float]:
    """Errors on videos of actors of the test split, by the suite that measures any others.

    Returns:
        Scores of the suite; ``NAME_r``, correlation of a track with the truth over all frames; and
        ``wrists_error``, mean distance in fractions of the picture's height.
    """
    recipe = Recipe(
        clips=clips, seconds=HELD_OUT_SECONDS, seed=HELD_OUT, height=VIEW_SIZE, width=VIEW_SIZE
    )
    path = work / "unmeasured.safetensors"
    save_probe(probe, path)
    write_dataset(work / "held_out", recipe, workers)
    found = evaluate(
        EvaluateConfig(
            videos=str(work / "held_out"), suite=Suite.actors, output="", probe=str(path)
        )
    )
    told = {name: found.scores[name]["mean"] for name in SCORES}
    takes = [take for take in found.takes if isinstance(take, ActorTake)]
    for name in FACE_TARGETS:
        seen = np.concatenate([getattr(take.reading, name) for take in takes])
        true = np.concatenate([getattr(take.tracks, name) for take in takes])
        told[f"{name}_r"] = float(correlation(seen.ravel(), true.ravel()))
    misses = np.concatenate([take.reading.wrists - take.wrists for take in takes])
    told["wrists_error"] = float(np.linalg.norm(misses.reshape(-1, 2), axis=-1).mean())
    return told


def _start_worker() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _clips(config: TrainProbeConfig) -> range:
    """Seeds of clips whose actors no network of single frames has been trained on."""
    return range(SIGNALS_FROM, SIGNALS_FROM + config.clips)


def _train_part(work: Path, part: str, steps: int) -> None:
    path = work / f"{part}.safetensors"
    if path.exists():
        return
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "body": lambda: training.train_body(read_frames(work / "frames", "views"), steps),
        "expression": lambda: training.train_expression(
            read_frames(work / "frames", "faces"), steps
        ),
        "person": lambda: training.train_person(
            read_frames(work / "frames", "faces"), IDENTITY_DIM, steps
        ),
        "behaviour": lambda: training.train_behaviour(work / "signals", steps),
    }
    save_file(makers[part]().state_dict(), path)


def _write_signals(work: Path, seed: int, config: TrainProbeConfig) -> None:
    training.write_signals(
        work / "signals",
        assemble(work, PARTS[:3]),
        seed,
        round(config.clip_seconds * Geometry().fps),
    )


def _all(
    pool: ProcessPoolExecutor, work: Callable[..., None], calls: list[tuple[Any, ...]], name: str
) -> None:
    """Make all ``calls``; the first error ends them."""
    futures = [pool.submit(work, *call) for call in calls]
    try:
        for future in tqdm(as_completed(futures), name, total=len(futures), mininterval=5):
            future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
