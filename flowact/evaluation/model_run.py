"""A model measured on actors who are made for it, beside the most that it could reach."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from flowact.data.actors.dataset import Recipe, write_dataset
from flowact.data.actors.settings import MakeActorsConfig
from flowact.data.claim import claim
from flowact.data.manifest import MANIFEST
from flowact.evaluation.actor_streams import ActorStreamer
from flowact.evaluation.settings import COLUMNS, EvaluateConfig, Mouth, Suite
from flowact.evaluation.suites import ActorSuite, Evaluation, VideoSuite, measure
from flowact.evaluation.takes import file_hash
from flowact.evaluation.voices import find_recordings, said_by
from flowact.index import read_index
from flowact.pipeline import FlowActPipeline
from flowact.ranks import rank_and_world
from flowact.runs import RunConfig
from flowact.runtime import decoder_name, load_pipeline, weights_name
from flowact.settings import AttentionBackend, Quantize, StreamSettings

TRUTH, ROUND_TRIP, MODEL = COLUMNS
VOICES = "voices"


@dataclass(frozen=True)
class ModelRun:
    """What was found of a model.

    Attributes:
        columns: those of ``COLUMNS`` that were asked for, in their order; then the voices.
        folder: holds the videos of each column in a folder of its name.
        streamed: what made the streams, as JSON holds it.
    """

    columns: dict[str, Evaluation]
    folder: Path
    streamed: dict[str, Any]


def evaluate_model(config: EvaluateConfig) -> ModelRun | None:
    """Make the actors, stream them, and measure; files that an earlier run completed are kept.

    Processes that torchrun or SLURM started share the actors out; the last to end measures, or the
    first of them if there was nothing left to stream.

    Returns:
        None from the others.

    Raises:
        ValueError: a setting is out of range, the weights or a voice cannot be loaded, or the
            folder of the output's name holds what other settings made.
    """
    recordings = find_recordings(config.voices) if config.voices is not None else {}
    run = _run_config(config)
    pipeline = load_pipeline(run)
    settings = config.stream.over(pipeline.config.stream)
    folder = Path(config.output).with_suffix("")
    recipe = Recipe.of(
        MakeActorsConfig(
            output=str(folder / TRUTH),
            clips=config.clips,
            seconds=config.seconds,
            seed=config.seed,
            resolution=f"{run.model.width}x{run.model.height}",
            takes=config.takes,
            synthesiser=config.synthesiser,
            workers=config.workers,
        )
    )
    streamed = _telling(config, run, pipeline, settings)
    claim(folder, streamed)
    rank, world = rank_and_world()
    names = [recipe.id(index) for index in range(recipe.clips)]
    folders = {column: folder / column for column in COLUMNS if column in config.columns}
    made = {column: path for column, path in folders.items() if column != TRUTH}
    files = [folder / TRUTH / MANIFEST]
    files += [path / f"{name}.mp4" for path in made.values() for name in names]
    if recordings:
        # Others than these are others' voices: the rest of what was streamed stays good for them.
        hashes = {path.name: file_hash(path) for path in recordings}
        streamed[VOICES] = hashes
        folders[VOICES] = folder / f"{VOICES}-{_digest(hashes)}"
        files += [folders[VOICES] / f"{path.name}.mp4" for path in recordings]
    if rank and _are_there(files):
        return None
    clips = write_dataset(folder / TRUTH, recipe, config.workers, (rank, world))
    streamer = ActorStreamer(pipeline, folder / TRUTH, settings, config.threads)
    for column, path in made.items():
        streamer.make(clips, path, round_trip=column == ROUND_TRIP)
    if recordings:
        # The actors take turns.
        own, turns = {clip.id: clip for clip in clips}, zip(recordings.items(), cycle(names))
        scenes = [
            said_by(own[name], path, seconds, run.model.geometry)
            for (path, seconds), name in turns
            if name in own
        ]
        streamer.stream(scenes, folders[VOICES])
    if not _are_there(files):
        return None
    suite = _suite(config, folder / TRUTH)
    found = {name: measure(suite, made, config.seed) for name, made in folders.items()}
    return ModelRun(found, folder, streamed)


def _are_there(files: Iterable[Path]) -> bool:
    return all(file.is_file() for file in files)


def _telling(
    config: EvaluateConfig, run: RunConfig, pipeline: FlowActPipeline, settings: StreamSettings
) -> dict[str, Any]:
    """What makes the streams. Arithmetic that is not changed is not told of, as before it could
    be: folders of then can be gone on with."""
    told: dict[str, Any] = {
        "model": run.model.name,
        "weights": weights_name(run, pipeline.trained),
        "decoder": decoder_name(run),
        "precision": str(pipeline.transformer.dtype).removeprefix("torch."),
        "stream": asdict(settings) | {"update": settings.update.name},
    }
    if config.attention is not AttentionBackend.native:
        told["attention"] = config.attention.name
    if pipeline.transformer.quantised is not Quantize.none:
        told["quantize"] = pipeline.transformer.quantised.name
        told["quantize_layers"] = list(config.quantize_layers)
    return told


def _digest(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:12]


def _suite(config: EvaluateConfig, truth: Path) -> ActorSuite | VideoSuite:
    """Of voices whose mouths nobody knows, actors are asked no more than those voices are."""
    read = replace(
        config,
        suite=Suite.actors if config.voices is None else Suite.video,
        mouth=Mouth.probe,
        voices=None,
        decoder=None,
        model=None,
        weights=None,
        videos=str(truth),
    )
    return ActorSuite(read) if config.voices is None else VideoSuite(read)


def _run_config(config: EvaluateConfig) -> RunConfig:
    model = config.model
    if model is None:
        assert config.weights is not None
        model, _ = read_index(Path(config.weights))
    return RunConfig(
        model=model,
        weights=config.weights,
        seed=config.seed,
        precision=config.precision,
        device=config.device,
        threads=config.threads,
        decoder=config.decoder,
        attention=config.attention,
        quantize=config.quantize,
        quantize_layers=config.quantize_layers,
        stream=config.stream,
    )
