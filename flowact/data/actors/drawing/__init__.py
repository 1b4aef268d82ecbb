"""The parts that a figure is drawn of."""
