"""One loop, the stages as objectives that it knows nothing of, and exact checkpoints."""
