"""FlowAct: streaming audio- and text-driven human video, after FlowAct-R1 (arXiv 2601.10103)."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``FlowActPipeline``, loaded when it is first asked for: importing this package is free."""
    if name == "FlowActPipeline":
        from flowact.pipeline import FlowActPipeline

        return FlowActPipeline
    raise AttributeError(f"module 'flowact' has no attribute {name!r}")
