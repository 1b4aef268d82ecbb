"""FlowAct: streaming audio- and text-driven human video, after FlowAct-R1 (arXiv 2601.10103)."""

__version__ = "0.1.0"
