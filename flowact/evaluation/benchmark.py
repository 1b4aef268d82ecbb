"""The speed of a preset, end to end, and against diffusers' model."""

import itertools
import os
import platform
import statistics
import tempfile
import time
import wave
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from flowact.evaluation.against_diffusers import compare_step, compare_tick
from flowact.evaluation.arithmetic import arithmetic_errors
from flowact.evaluation.latency import latency_report, percentiles
from flowact.geometry import Geometry
from flowact.media.writer import VideoWriter
from flowact.parallel.ranks import Ranks
from flowact.pipeline import FlowActPipeline
from flowact.runs import BenchmarkConfig
from flowact.runtime import describe, describe_sharing, shared_pipeline
from flowact.sampling import follow
from flowact.streaming.engine import Engine

MINUTE = 60.0
# A run this long has a second minute and a last one that differ.
LONG = 3 * MINUTE
WARM_UP, STEADY = 2.0, 8.0


def benchmark(config: BenchmarkConfig) -> dict[str, Any] | None:
    """Stream ``config.seconds`` of video from file to file and report what it took.

    With ``config.errors``, what faster arithmetic costs instead. Of several processes that share
    the stream, the first does so, and the others return None.
    """
    if config.errors:
        return arithmetic_errors(config) | {"machine": machine()}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder, shared_pipeline(config) as (pipeline, ranks):
        # The first run of a kernel is not its speed; what is compiled has to come a few times.
        for seconds in (STEADY if config.compile or config.graphs else WARM_UP, config.seconds):
            report = _run(pipeline, config, ranks, Path(folder), seconds)
    if report is None:
        return None
    report["machine"] = machine()
    dtype, device = pipeline.transformer.dtype, pipeline.transformer.device
    if config.ticks:
        report["tick_against_diffusers"] = compare_tick(
            pipeline.config, dtype, device, config.ticks
        )
    if config.steps:
        report["step_against_diffusers"] = compare_step(pipeline.config, device, config.steps)
    return report


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    names = [line for line in _cpu_info() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _run(
    pipeline: FlowActPipeline,
    config: BenchmarkConfig,
    ranks: Ranks | None,
    folder: Path,
    seconds: float,
) -> dict[str, Any] | None:
    model, geometry = pipeline.config, pipeline.config.geometry
    sound = folder / "sound.wav"
    write_babble(sound, seconds, geometry)
    image = Image.fromarray(np.full((model.height, model.width, 3), 128, np.uint8))
    settings = config.stream.over(model.stream)
    session = pipeline.session(image, config.prompt, seeds=(config.seed,), stream=settings)
    engine = Engine(session, threads=config.threads)
    if ranks is not None:
        if ranks.rank:
            follow(engine, pipeline.blocks(sound))
            return None
        ranks.traffic.received = 0
    video = folder / "video.mp4"
    writer = VideoWriter(video, model.height, model.width, geometry.fps, sound, metadata={})
    process, resident, frames = psutil.Process(), [], 0
    spoken, begun = pipeline.blocks(sound), time.perf_counter()
    if config.live:
        spoken = live(spoken, geometry, begun)
    bar = tqdm(total=geometry.frames(round(seconds * geometry.sample_rate)), disable=None)
    with writer, bar, closing(engine.run(spoken)) as chunks:
        for chunk in chunks:
            with engine.timing.stage("write"):
                writer.write(chunk[0].numpy())
            frames += chunk.shape[1]
            bar.update(chunk.shape[1])
            resident.append(process.memory_info().rss / 2**20)
    report = latency_report(engine.timing, frames, geometry, settings)
    report |= describe(config, pipeline, engine.threads)
    if pipeline.transformer.device.type == "cuda":
        report["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    calls = engine.timing.calls + engine.timing.refine_calls
    report |= describe_sharing(config, ranks, calls)
    report["stream"] = asdict(settings) | {"update": settings.update.name}
    if config.live:
        report["reaction_s"] = percentiles(reactions(engine.timing.emitted, geometry, begun))
        for unpaced in ("fps", "ttff_s", "deadline_misses"):  # of a sound that is all there
            del report[unpaced]
    if seconds >= LONG:
        report |= endurance(engine.timing.tick_s, resident, geometry)
    return report


def live(blocks: Iterable[Tensor], geometry: Geometry, begun: float) -> Iterator[Tensor]:
    """The samples of ``blocks`` as somebody speaks them who ``begun`` then, a frame's at a time."""
    spoken = 0
    for frame in itertools.chain.from_iterable(b.split(geometry.frame_samples) for b in blocks):
        spoken += len(frame)
        time.sleep(max(0.0, begun + spoken / geometry.sample_rate - time.perf_counter()))
        yield frame


def reactions(emitted: Sequence[float], geometry: Geometry, begun: float) -> list[float]:
    """Seconds from the first sample of each chunk, as it is spoken, to the frame that shows it.

    What is said later in a chunk is shown sooner, by up to a chunk less a frame.
    """
    return [moment - begun - c * geometry.chunk_seconds for c, moment in enumerate(emitted)]


def endurance(ticks: list[float], resident: list[float], geometry: Geometry) -> dict[str, float]:
    """Growth of memory after the first minute, and of the tick from the second to the last."""
    minute = round(MINUTE / geometry.chunk_seconds)
    second, last = (statistics.median(t) for t in (ticks[minute : 2 * minute], ticks[-minute:]))
    return {
        "rss_growth_mb": max(resident[minute:]) - resident[minute],
        "tick_last_minute_over_second": last / second,
    }


def write_babble(path: Path, seconds: float, geometry: Geometry) -> None:
    """A wav of noise that swells like syllables, in constant memory."""
    random, rate = np.random.default_rng(0), geometry.sample_rate
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        for start in range(0, round(seconds * rate), rate):
            now = np.arange(start, min(start + rate, round(seconds * rate))) / rate
            swell = np.clip(np.sin(2 * np.pi * 4 * now), 0, 1)
            file.writeframes((3000 * swell * random.normal(size=len(now))).astype("<i2").tobytes())
