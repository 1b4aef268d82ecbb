"""What a run took, in the terms of the latency protocol (design 10)."""

import resource
import statistics
from typing import Any

from flowact.geometry import Geometry
from flowact.settings import StreamSettings
from flowact.streaming.engine import Timing


def latency_report(
    timing: Timing, frames: int, geometry: Geometry, settings: StreamSettings
) -> dict[str, Any]:
    """Times and calls of a run that gave ``frames`` frames.

    ``fps`` counts the frames after the first emission over the time to the last, unpaced; None for
    a single chunk. Chunk ``c`` misses its deadline if it is done later than ``ttff + 0.48 c``.
    Decoding, audio encoding and writing are all inside these times.
    """
    emitted = [moment - timing.started for moment in timing.emitted]
    ttff = emitted[0] if emitted else None
    late = 0
    fps = None
    if ttff is not None:
        deadlines = (ttff + chunk * geometry.chunk_seconds for chunk in range(len(emitted)))
        late = sum(done > deadline for done, deadline in zip(emitted, deadlines, strict=True))
        if len(emitted) > 1:
            fps = (frames - geometry.chunk_frames) / (emitted[-1] - ttff)
    return {
        "frames": frames,
        "video_fps": geometry.fps,
        "fps": fps,
        "ttff_s": ttff,
        "tick_s": percentiles(timing.tick_s),
        "stage_s": timing.stage_s,
        "deadline_misses": late,
        "calls_per_chunk": settings.micro_steps * settings.passes,
        "nfe_per_chunk": geometry.depth * settings.micro_steps * settings.passes,
        "calls": timing.calls,
        "refine_calls": timing.refine_calls,
        "ramp_calls": timing.ramp_calls,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """p50, p95, p99 and max; None without a sample."""
    if len(seconds) < 2:
        only = seconds[0] if seconds else None
        return dict.fromkeys(("p50", "p95", "p99", "max"), only)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(seconds)}
