"""A contact sheet of a video's clips, so that its timing can be checked by eye."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flowact.data.plan import ClipRules, Material, Plan, first_frame, materials
from flowact.geometry import Geometry

MAX_CLIPS = 12
FRAMES = 12  # of each clip
THUMB = 112  # pixels, the longer side
WAVE_HEIGHT = 36
LINE = 14
QUIET = 0.05  # peaks below are drawn smaller, those above to the full height
GAP = 6
INK, PAPER, SOUND, EDGE = (20, 20, 20), (250, 250, 250), (60, 110, 180), (200, 80, 60)


def draw_sheet(plan: Plan, rules: ClipRules, path: Path) -> None:
    """Write a PNG with a band for each of the first clips of a plan.

    A band has frames at even distances, each over the second of the source it is taken at; the
    sound of the same time under them; and intervals with their captions where they begin.
    """
    bands = [
        _band(material, rules.geometry)
        for material in materials(plan, plan.clips[:MAX_CLIPS], rules)
    ]
    width = max(band.width for band in bands)
    height = sum(band.height + GAP for band in bands)
    sheet = Image.new("RGB", (width, height), PAPER)
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height + GAP
    sheet.save(path)


def _band(material: Material, geometry: Geometry) -> Image.Image:
    clip, frames = material.clip, material.frames
    scale = THUMB / max(frames.shape[1:3])
    thumb = round(frames.shape[2] * scale), round(frames.shape[1] * scale)
    width = FRAMES * thumb[0]
    wave_top = LINE + thumb[1] + LINE
    captions_top = wave_top + WAVE_HEIGHT
    band = Image.new("RGB", (width, captions_top + LINE * (len(clip.intervals) + 1)), PAPER)
    draw, font = ImageDraw.Draw(band), ImageFont.load_default(11)
    start = first_frame(clip, geometry)
    head = f"{clip.id}   {clip.frames} frames   {frames.shape[2]}x{frames.shape[1]}"
    draw.text((2, 0), f"{head}   {clip.appearance}", INK, font)
    per_column = clip.frames / FRAMES
    for column in range(FRAMES):
        # The middle of its column, as in the sound below.
        index = int((column + 0.5) * per_column)
        image = Image.fromarray(frames[index]).resize(thumb, Image.Resampling.LANCZOS)
        band.paste(image, (column * thumb[0], LINE))
        seconds = (start + index) / geometry.fps
        draw.text((column * thumb[0] + 2, LINE + thumb[1]), f"{seconds:.2f} s", INK, font)
    _draw_wave(draw, material.wave, clip.frames, width, wave_top, geometry)
    for row, interval in enumerate(clip.intervals):
        left, right = (
            width * second * geometry.fps / clip.frames for second in (interval.start, interval.end)
        )
        top = captions_top + row * LINE
        draw.line((left, wave_top, left, top + LINE), EDGE)
        draw.line((left, top + LINE - 1, right, top + LINE - 1), EDGE)
        label = ", ".join(filter(None, (interval.state, interval.action)))
        draw.text(
            (min(left + 3, width * 0.6), top),
            f"[{label}] {interval.caption}",
            INK,
            font,
        )
    return band


def _draw_wave(
    draw: ImageDraw.ImageDraw,
    wave: NDArray[np.float32],
    frames: int,
    width: int,
    top: int,
    geometry: Geometry,
) -> None:
    """Peaks of the sound, column by column; that of frame 0 is not stored, and left blank."""
    samples = np.pad(wave, (geometry.frame_samples, 0))[: frames * geometry.frame_samples]
    middle, loudest = top + WAVE_HEIGHT / 2, max(QUIET, float(np.abs(samples).max()))
    for x, part in enumerate(np.array_split(samples, width)):
        low, high = part.min() / loudest, part.max() / loudest
        reach = WAVE_HEIGHT / 2 - 2
        draw.line((x, middle - high * reach, x, middle - low * reach), SOUND)
