"""How a picture is scaled and cropped to one of a few sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flowact.data.frames import Frames
from flowact.media.image import TOP_CUT


@dataclass(frozen=True)
class Crop:
    """The whole picture is scaled to ``scaled_height`` x ``scaled_width``, then cut out.

    Attributes:
        height, width: of the bucket.
        top, left: of the part that is kept, in the scaled picture.
    """

    height: int
    width: int
    scaled_height: int
    scaled_width: int
    top: int
    left: int

    def cut(self, frames: Frames) -> Frames:
        """The part of scaled frames that is kept."""
        rows = slice(self.top, self.top + self.height)
        return frames[:, rows, self.left : self.left + self.width]

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The part that is kept (x, y, width, height), in pixels of a picture of this size."""
        across, down = width / self.scaled_width, height / self.scaled_height
        sides = self.left * across, self.top * down, self.width * across, self.height * down
        x, y, kept_width, kept_height = map(round, sides)
        return x, y, kept_width, kept_height


def choose_crop(height: int, width: int, buckets: Sequence[tuple[int, int]]) -> Crop:
    """The bucket (height, width) nearest in aspect to a picture, which covers it whole.

    Of the width the same is cut on both sides; of the height an eighth of the cut is taken from
    the top, as of the images that streams start from: heads are up there.
    """
    aspect = math.log(width / height)
    rows, columns = min(buckets, key=lambda size: abs(math.log(size[1] / size[0]) - aspect))
    scale = max(rows / height, columns / width)
    scaled_height, scaled_width = (
        max(rows, round(height * scale)),
        max(columns, round(width * scale)),
    )
    return Crop(
        rows,
        columns,
        scaled_height,
        scaled_width,
        top=round((scaled_height - rows) * TOP_CUT),
        left=(scaled_width - columns) // 2,
    )
