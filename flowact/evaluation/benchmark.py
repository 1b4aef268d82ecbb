"""The speed of a preset, end to end, and of one tick against diffusers' model."""

import dataclasses
import os
import platform
import statistics
import tempfile
import time
import wave
from contextlib import closing
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import psutil
import torch
from PIL import Image
from tqdm import tqdm

from flowact.evaluation.latency import latency_report
from flowact.geometry import Geometry
from flowact.media.writer import VideoWriter
from flowact.models.embeddings import TIME_SCALE
from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.pipeline import FlowActPipeline
from flowact.runs import BenchmarkConfig
from flowact.runtime import describe, load_pipeline
from flowact.settings import ModelConfig
from flowact.streaming.engine import Engine
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.state import Conditions

MINUTE = 60.0
# A run this long has a second minute and a last one that differ.
LONG = 3 * MINUTE


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Stream ``config.seconds`` of video from file to file and report what it took."""
    pipeline = load_pipeline(config)
    with tempfile.TemporaryDirectory() as folder:
        _run(pipeline, config, Path(folder), 2.0)  # the first run of a kernel is not its speed
        report = _run(pipeline, config, Path(folder), config.seconds)
    report["machine"] = machine()
    if config.ticks:
        transformer = pipeline.transformer
        report["tick_against_diffusers"] = compare_tick(
            pipeline.config, transformer.dtype, transformer.device, config.ticks
        )
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
    pipeline: FlowActPipeline, config: BenchmarkConfig, folder: Path, seconds: float
) -> dict[str, Any]:
    model, geometry = pipeline.config, pipeline.config.geometry
    sound = folder / "sound.wav"
    write_babble(sound, seconds, geometry)
    image = Image.fromarray(np.full((model.height, model.width, 3), 128, np.uint8))
    settings = config.stream.over(model.stream)
    session = pipeline.session(image, "", seeds=(config.seed,), stream=settings)
    engine = Engine(session, threads=config.threads)
    video = folder / "video.mp4"
    writer = VideoWriter(video, model.height, model.width, geometry.fps, sound, metadata={})
    process, resident, frames = psutil.Process(), [], 0
    bar = tqdm(total=geometry.frames(round(seconds * geometry.sample_rate)), disable=None)
    with writer, bar, closing(engine.run(pipeline.blocks(sound))) as chunks:
        for chunk in chunks:
            with engine.timing.stage("write"):
                writer.write(chunk[0].numpy())
            frames += chunk.shape[1]
            bar.update(chunk.shape[1])
            resident.append(process.memory_info().rss / 2**20)
    report = latency_report(engine.timing, frames, geometry, settings)
    report |= describe(config, pipeline, engine.threads)
    if seconds >= LONG:
        report |= endurance(engine.timing.tick_s, resident, geometry)
    return report


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


def compare_tick(
    model: ModelConfig, dtype: torch.dtype, device: torch.device, pairs: int
) -> dict[str, float]:
    """One steady tick against diffusers' model on the same latents, in turn; medians in seconds.

    Both have the same width, depth and tokens; ours without its audio adapter, its text and
    context kept from earlier ticks as in any stream. Both are uncompiled and untrained.
    """
    ours = dataclasses.replace(model.transformer, audio_feature_dim=None)
    names = {f.name for f in dataclasses.fields(ours)}
    base_names = set(
        diffusers.HunyuanVideo15Transformer3DModel.__init__.__wrapped__.__annotations__
    )
    shared = {k: getattr(ours, k) for k in names & base_names}
    shared |= {"text_embed_2_dim": 16, "image_embed_dim": 16}
    base = diffusers.HunyuanVideo15Transformer3DModel(**shared).eval()
    flowact = FlowActTransformer3DModel(**dataclasses.asdict(ours)).eval()
    for module in (base, flowact):
        torch.nn.Module.to(module, device, dtype)
    with torch.inference_mode(), device:
        tick = _steady_tick(flowact, model)
        call = _base_call(base, model)
        times: dict[str, list[float]] = {"flowact": [], "diffusers": []}
        for _ in range(pairs + 3):
            for name, work in (("flowact", tick), ("diffusers", call)):
                begun = time.perf_counter()
                work()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                times[name].append(time.perf_counter() - begun)
    medians = {f"{name}_s": statistics.median(taken[3:]) for name, taken in times.items()}
    return medians | {"times_as_fast": medians["diffusers_s"] / medians["flowact_s"]}


TEXT_TOKENS = 24


def _latent_size(model: ModelConfig) -> tuple[int, int]:
    stride = model.geometry.spatial_stride
    return model.height // stride, model.width // stride


def _steady_tick(transformer: FlowActTransformer3DModel, model: ModelConfig) -> Any:
    """A function that runs the next tick of a stream whose queue and memory are full."""
    sampler = StreamSampler(transformer, model.geometry, model.stream)
    dtype, config = transformer.dtype, transformer.config
    embeds = torch.randn(1, TEXT_TOKENS, config.text_embed_dim, dtype=dtype)
    text = transformer.encode_text(TextInputs(embeds, torch.ones(1, TEXT_TOKENS, dtype=torch.bool)))
    latent = torch.randn(1, config.out_channels, 1, *_latent_size(model))
    state = sampler.start(latent, (0,))
    for filled in range(model.geometry.depth + model.geometry.long_term):
        texts = (text,) * min(filled + 1, model.geometry.depth)
        state = sampler.tick(state, Conditions(texts)).state
    full = Conditions((text,) * model.geometry.depth)

    def tick() -> None:
        nonlocal state
        state = sampler.tick(state, full).state

    return tick


def _base_call(base: Any, model: ModelConfig) -> Any:
    """A function that runs diffusers' model once on a buffer of as many tokens."""
    config, dtype = base.config, next(base.parameters()).dtype
    latents = model.geometry.buffer_latents
    x = torch.randn(1, config.in_channels, latents, *_latent_size(model), dtype=dtype)
    time_ = torch.full((1,), TIME_SCALE / 2, dtype=dtype)
    # The two streams that our presets may leave out get one token each of the same text length.
    text = torch.randn(1, TEXT_TOKENS - 2, config.text_embed_dim, dtype=dtype)
    second = torch.randn(1, 1, config.text_embed_2_dim, dtype=dtype)
    image = torch.randn(1, 1, config.image_embed_dim, dtype=dtype)
    masks = torch.ones(1, TEXT_TOKENS - 2), torch.ones(1, 1)

    def call() -> None:
        base(x, time_, text, masks[0], None, second, masks[1], image, return_dict=False)

    return call
