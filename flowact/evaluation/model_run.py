"""A model measured on actors who are made for it, beside the most that it could reach."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flowact.data.actors.dataset import Recipe, write_dataset
from flowact.data.actors.settings import MakeActorsConfig
from flowact.data.claim import claim
from flowact.data.manifest import read_manifest
from flowact.evaluation.actor_streams import ActorStreamer
from flowact.evaluation.settings import COLUMNS, EvaluateConfig, Mouth, Suite
from flowact.evaluation.suites import ActorSuite, Evaluation, VideoSuite, measure
from flowact.evaluation.takes import file_hash
from flowact.evaluation.voices import find_recordings, said_by
from flowact.index import read_index
from flowact.pipeline import FlowActPipeline
from flowact.runs import RunConfig
from flowact.runtime import decoder_name, load_pipeline, weights_name
from flowact.settings import AttentionBackend, Quantize

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


def evaluate_model(config: EvaluateConfig) -> ModelRun:
    """Make the actors, stream them, and measure; files that an earlier run completed are kept.

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
    streamed: dict[str, Any] = {
        "model": run.model.name,
        "weights": weights_name(run, pipeline.trained),
        "decoder": decoder_name(run),
        "precision": str(pipeline.transformer.dtype).removeprefix("torch."),
        "stream": asdict(settings) | {"update": settings.update.name},
    }
    streamed |= _changed_arithmetic(config, pipeline)
    claim(folder, streamed)
    write_dataset(folder / TRUTH, recipe, config.workers)
    clips = read_manifest(folder / TRUTH)
    scenes = said_by(clips, recordings, run.model.geometry)
    streamer = ActorStreamer(pipeline, folder / TRUTH, settings, config.threads)
    columns = [column for column in COLUMNS if column in config.columns]
    for column in columns:
        if column != TRUTH:
            streamer.make(clips, folder / column, round_trip=column == ROUND_TRIP)
    folders = {column: folder / column for column in columns}
    if scenes:
        # Others than these are others' voices: the rest of what was streamed stays good for them.
        hashes = {path.name: file_hash(path) for path in recordings}
        streamed[VOICES] = hashes
        folders[VOICES] = folder / f"{VOICES}-{_digest(hashes)}"
        streamer.stream(scenes, folders[VOICES])
    suite = _suite(config, folder / TRUTH)
    found = {name: measure(suite, made, config.seed) for name, made in folders.items()}
    return ModelRun(found, folder, streamed)


def _changed_arithmetic(config: EvaluateConfig, pipeline: FlowActPipeline) -> dict[str, Any]:
    """What differs from the plain model; nothing if nothing does, as in folders made before."""
    changed: dict[str, Any] = {}
    if config.attention is not AttentionBackend.native:
        changed["attention"] = config.attention.name
    if pipeline.transformer.quantised is not Quantize.none:
        changed["quantize"] = pipeline.transformer.quantised.name
        changed["quantize_layers"] = list(config.quantize_layers)
    return changed


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
