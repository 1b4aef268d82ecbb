"""One image and one audio file in, a video and its report out: what ``scripts/sample.py`` runs."""

import hashlib
import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from flowact.evaluation.latency import latency_report
from flowact.geometry import Geometry
from flowact.media.audio import probe_audio
from flowact.media.files import check_output
from flowact.media.image import load_image
from flowact.media.writer import VideoWriter
from flowact.pipeline import FlowActPipeline, resolve_dtype
from flowact.settings import RunConfig, SampleConfig
from flowact.streaming.engine import Engine
from flowact.streaming.prompts import PromptSchedule, load_schedule

logger = logging.getLogger(__name__)

UNTRAINED = "untrained: random weights, so the video is noise shaped by an untrained model"


def sample(config: SampleConfig) -> dict[str, Any]:
    """Stream ``config.output`` and write its report beside it; the report is returned.

    Everything the user gave is checked before anything is written. Ctrl-C leaves a playable file of
    what was made, and ``interrupted`` in the report.

    Raises:
        ValueError: an input cannot be used, or the output cannot be written.
    """
    inputs = [config.image, config.audio, *([config.prompts] if config.prompts else [])]
    output = check_output(config.output, *inputs)
    report_path = check_output(
        config.report or output.with_suffix(".json"), *inputs, suffix=".json"
    )
    load_image(config.image, 16, 16)
    sound = probe_audio(config.audio)
    if sound.silent:
        logger.warning("%s is silent: the person will not speak", config.audio)
    pipeline, dtype = load_pipeline(config)
    geometry = pipeline.config.geometry
    prompts = _prompts(config, geometry, sound.seconds)
    settings = config.stream.over(pipeline.config.stream)
    session = pipeline.session(config.image, prompts, seeds=(config.seed,), stream=settings)
    engine = Engine(session, threads=config.threads)
    weights = weights_name(config, pipeline.trained)
    tags = {"software": "FlowAct", "seed": str(config.seed), "weights": weights}
    frames, interrupted = _render(pipeline, engine, config.audio, output, sound.seconds, tags)
    report = latency_report(engine.timing, frames, geometry, settings) | {
        "seed": config.seed,
        "precision": str(dtype).removeprefix("torch."),
        "weights": weights,
        "model": pipeline.config.name,
        "synthetic": True,
        "interrupted": interrupted,
    }
    report_path.write_text(json.dumps(report, indent=2) + "\n")
    return report


def load_pipeline(config: RunConfig) -> tuple[FlowActPipeline, torch.dtype]:
    """The preset, or the folder of weights, on its device and in its precision."""
    transformers.utils.logging.disable_progress_bar()  # a model loads in less than its bar takes
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.precision, device)
    if config.weights is None:
        pipeline = FlowActPipeline.untrained(config.model, config.seed, dtype)
    else:
        pipeline = FlowActPipeline.from_pretrained(config.weights, dtype)
    if not pipeline.trained:
        logger.warning("%s is %s", pipeline.config.name, UNTRAINED)
    return pipeline.to(device), dtype


def resolve_device(name: str) -> str:
    """``auto`` is the first GPU, or the CPU.

    Raises:
        ValueError: the device is unknown or not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name} is unknown; give auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={name} is not there; {torch.cuda.device_count()} GPUs are")
    return name


def weights_name(config: RunConfig, trained: bool) -> str:
    """A hash of the weight files, and whether they are trained."""
    if config.weights is None:
        return UNTRAINED
    digest = hashlib.sha256()
    for path in sorted(Path(config.weights).rglob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    name = f"sha256:{digest.hexdigest()[:16]}"
    return name if trained else f"{name}, {UNTRAINED}"


def _prompts(config: SampleConfig, geometry: Geometry, seconds: float) -> PromptSchedule:
    if config.prompts is None:
        return PromptSchedule.constant(config.prompt, geometry)
    if config.prompt:
        raise ValueError("prompt and prompts exclude each other; give one (prompts=null drops it)")
    return load_schedule(config.prompts, geometry).within(seconds)


def _render(
    pipeline: FlowActPipeline,
    engine: Engine,
    audio: str,
    output: Path,
    seconds: float,
    tags: dict[str, str],
) -> tuple[int, bool]:
    """Write the video as it is made; frames written, and whether the user stopped it."""
    model, geometry = pipeline.config, pipeline.config.geometry
    total = geometry.frames(round(seconds * geometry.sample_rate))
    writer = VideoWriter(output, model.height, model.width, geometry.fps, audio, metadata=tags)
    bar = tqdm(total=total, unit="frame", desc=output.name, disable=None)
    done, interrupted = 0, False
    with writer, bar, closing(engine.run(pipeline.blocks(audio))) as chunks:
        try:
            for frames in chunks:
                with engine.timing.stage("write"):
                    writer.write(frames[0].cpu().numpy())
                done += frames.shape[1]
                bar.update(frames.shape[1])
        except KeyboardInterrupt:
            interrupted = True
    return done, interrupted
