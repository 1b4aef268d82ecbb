"""One image and one audio file in, a video and its report out: what ``scripts/sample.py`` runs."""

import json
import logging
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from flowact.evaluation.latency import latency_report
from flowact.index import read_index
from flowact.media.audio import probe_audio
from flowact.media.files import check_output
from flowact.media.image import load_image
from flowact.media.writer import VideoWriter
from flowact.pipeline import FlowActPipeline
from flowact.runs import SampleConfig
from flowact.runtime import describe, describe_sharing, shared_pipeline
from flowact.settings import ModelConfig
from flowact.streaming.engine import Engine
from flowact.streaming.planner import EndpointPlanner, PlannedPrompts
from flowact.streaming.prompts import PromptSchedule, load_schedule, save_schedule

logger = logging.getLogger(__name__)


def sample(config: SampleConfig) -> dict[str, Any] | None:
    """Stream ``config.output`` and write its report beside it; the report is returned.

    Of several processes that share the stream, the first does so, and the others return None.

    Everything the user gave is checked before anything is written. Ctrl-C leaves a playable file of
    what was made, and ``interrupted`` in the report.

    Raises:
        ValueError: an input cannot be used, or the output cannot be written.
        KeyboardInterrupt: by Ctrl-C before the first frames; nothing was written.
    """
    inputs = [config.image, config.audio, *([config.prompts] if config.prompts else [])]
    output = check_output(config.output, *inputs)
    report_path = check_output(
        config.report or output.with_suffix(".json"), *inputs, suffix=".json"
    )
    planned_path = output.with_suffix(".prompts.json")
    if config.planner.url is not None:
        check_output(planned_path, *inputs, suffix=".json")
        if planned_path == report_path:
            raise ValueError(f"report={report_path} is where planned prompts go; name another")
    load_image(config.image, 16, 16)
    sound = probe_audio(config.audio)
    if sound.silent:
        logger.warning("%s is silent: the person will not speak", config.audio)
    model = config.model if config.weights is None else read_index(Path(config.weights))[0]
    prompts = _prompts(config, model, sound.seconds)
    settings = config.stream.over(model.stream)
    with shared_pipeline(config) as (pipeline, ranks):
        session = pipeline.session(config.image, prompts, seeds=(config.seed,), stream=settings)
        engine = Engine(session, threads=config.threads)
        if ranks is not None and ranks.rank:
            follow(engine, pipeline.blocks(config.audio))
            return None
        if pipeline.note is not None:
            logger.warning("%s: %s", config.weights, pipeline.note)
        about = describe(config, pipeline, engine.threads)
        with stop_on_signal() as stopped:
            frames = _render(pipeline, engine, config, output, sound.seconds, about, stopped)
            if not frames:
                raise KeyboardInterrupt
            report = latency_report(engine.timing, frames, model.geometry, settings)
            report |= about | {"synthetic": True, "interrupted": stopped.is_set()}
            report |= describe_sharing(config, ranks, report["calls"] + report["refine_calls"])
            if isinstance(prompts, PlannedPrompts):
                save_schedule(prompts.schedule, planned_path)
                report["planner"] = {
                    "model": config.planner.model,
                    "prompts": str(planned_path),
                    "asked": prompts.asked,
                    "failed": prompts.failed,
                }
            report_path.write_text(json.dumps(report, indent=2) + "\n")
    return report


def follow(engine: Engine, audio: Iterable[Tensor]) -> None:
    """Run a stream's share of this process, in step with the one that shows it."""
    with closing(engine.run(audio)) as chunks:
        for _ in chunks:
            pass


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, and interrupt nothing."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # signals are the main thread's business
        return
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_stream(
    engine: Engine,
    audio: Iterable[Tensor],
    writer: VideoWriter,
    stopped: threading.Event | None = None,
) -> Generator[int, None, None]:
    """Stream into a file, to the end of the audio or until ``stopped``.

    Args:
        audio: blocks of samples, as ``Engine.run`` takes them.

    Yields:
        the number of frames of each chunk, once they are written. Closing the iterator stops the
        engine and completes the file.
    """
    with writer, closing(engine.run(audio)) as chunks:
        for frames in chunks:
            if stopped is not None and stopped.is_set():
                return
            with engine.timing.stage("write"):
                writer.write(frames[0].numpy())
            yield frames.shape[1]


def _prompts(
    config: SampleConfig, model: ModelConfig, seconds: float
) -> PromptSchedule | PlannedPrompts:
    geometry, planner = model.geometry, config.planner
    if planner.url is not None:
        image = load_image(config.image, model.height, model.width)
        return PlannedPrompts(
            EndpointPlanner(planner, image, geometry),
            geometry,
            config.prompt,
            every=planner.every,
            seconds=planner.seconds,
            wait=planner.wait,
        )
    if config.prompts is None:
        return PromptSchedule.constant(config.prompt, geometry)
    schedule = load_schedule(config.prompts, geometry)
    schedule.warn_of_late(seconds)
    return schedule


def _render(
    pipeline: FlowActPipeline,
    engine: Engine,
    config: SampleConfig,
    output: Path,
    seconds: float,
    about: dict[str, object],
    stopped: threading.Event,
) -> int:
    """Write the video as it is made, to its end or until ``stopped``; the frames written."""
    model, geometry = pipeline.config, pipeline.config.geometry
    total = geometry.frames(round(seconds * geometry.sample_rate))
    tags = {"software": "FlowAct"} | {key: str(about[key]) for key in ("seed", "weights")}
    writer = VideoWriter(
        output, model.height, model.width, geometry.fps, config.audio, metadata=tags
    )
    bar = tqdm(total=total, unit="frame", desc=output.name, disable=None)
    done = 0
    written = write_stream(engine, pipeline.blocks(config.audio), writer, stopped)
    with bar, closing(written):
        for frames in written:
            done += frames
            bar.update(frames)
    return done
