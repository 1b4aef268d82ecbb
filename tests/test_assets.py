"""What the package brings along stays small enough for a checkout."""

from pathlib import Path

ASSETS = Path(__file__).parents[1] / "flowact" / "assets"


def test_the_weights_are_at_most_32_megabytes():
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*.safetensors")}
    assert len(sizes) >= 4  # the demo's three parts, and the probe
    assert sum(sizes.values()) <= 32_000_000, sizes
