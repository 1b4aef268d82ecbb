"""Count what training a preset takes on each GPU, on a machine that need not have one.

    python scripts/memory.py model=hunyuan15 [micro_batch=2] [model.height=256 model.width=448]

Prints a table in GB. The network, its loss and its optimisers run on tensors without storage: all
is counted, but for what processes exchange, which is estimated, and what kernels take for a moment.
"""

from flowact.cli import main
from flowact.runs import MemoryConfig


def work(config: MemoryConfig) -> None:
    from flowact.training.memory import markdown, memory_table

    print(markdown(memory_table(config)))


if __name__ == "__main__":
    main("memory", MemoryConfig, work, __doc__)
