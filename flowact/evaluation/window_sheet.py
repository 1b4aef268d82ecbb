"""A picture of training windows, for the eye: what is remembered, denoised, said and heard."""

import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flowact.data.data_folder import DataFolder, WindowInfo, Windows
from flowact.data.frames import FrameReader, Frames
from flowact.data.manifest import Clip
from flowact.data.video import inspect_video
from flowact.data.window_dataset import WindowDataset
from flowact.geometry import Geometry
from flowact.index import read_index
from flowact.media.files import check_output
from flowact.runs import ShowWindowsConfig
from flowact.settings import StreamSettings

logger = logging.getLogger(__name__)

THUMB, AUDIO, LINE, GAP = 72, 24, 15, 4  # heights in pixels; the gap in width too
LETTER, TITLE = 6, 600  # widths in pixels, about
INK, FAINT, PAPER = (20, 20, 20), (120, 120, 120), (255, 255, 255)
NEAREST = Image.Resampling.NEAREST
FONT = ImageFont.load_default(size=11)
# Standard deviations of a normalised latent that are drawn as black and white.
LATENT_RANGE = 2.0


def show_windows(config: ShowWindowsConfig) -> None:
    """Draw the first samples that a run would draw from one folder.

    Raises:
        ValueError: the folder, or the file to be written, will not do.
    """
    output = check_output(config.output, suffix=".png")
    geometry, stream = Geometry(), StreamSettings()
    if config.weights:
        model = read_index(Path(config.weights))[0]
        geometry, stream = model.geometry, model.stream
    dataset = WindowDataset(
        {Path(config.data): 1.0},
        geometry,
        config.windows,
        seed=config.seed,
        long_term_stride=stream.long_term_stride,
    )
    window_sheet(dataset, range(config.rows), geometry).save(output)


def window_sheet(dataset: WindowDataset, samples: Sequence[int], geometry: Geometry) -> Image.Image:
    """Samples as rows: the frame in the middle of each latent, audio, captions, and what was drawn.

    A latent of a clip whose video cannot be read is shown by its first three channels.
    """
    rows = []
    for sample in samples:
        folder = dataset.folders[dataset.draws[sample].folder]
        window = dataset[sample]
        rows.append(_row(window, latent_pictures(folder, window, geometry), geometry))
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _row(window: Windows, pictures: Frames, geometry: Geometry) -> Image.Image:
    """A title; context, a gap, and the chunks of the stream; below, audio and captions."""
    info, size = window.infos[0], geometry.chunk_latents
    n_context, n_chunks = 1 + len(info.memory), len(info.captions)
    step = pictures.shape[2] + GAP
    lefts = [GAP + n * step for n in range(n_context)]
    lefts += [
        GAP + (n_context + n) * step + 3 * GAP * (1 + n // size) for n in range(n_chunks * size)
    ]
    bottom = 2 * LINE + THUMB + AUDIO + 3 * LINE
    row = Image.new("RGB", (max(lefts[-1] + step, TITLE), bottom + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(row)
    draw.text((GAP, 0), _title(info), INK, FONT)
    slots = (*geometry.slots(len(info.memory) - 1), *geometry.stream_slots(n_chunks))
    for left, slot, picture in zip(lefts, slots, pictures, strict=True):
        draw.text((left, LINE), str(slot), FAINT, FONT)
        row.paste(Image.fromarray(picture), (left, 2 * LINE))
    if window.audio is not None:
        heard = _audio_strips(window.audio[0], geometry)
        for left, strip in zip(lefts[n_context:], heard, strict=True):
            row.paste(
                strip.resize((step - GAP, AUDIO - GAP), NEAREST), (left, 2 * LINE + THUMB + GAP)
            )
    spans = [("before", info.memory_caption, GAP, n_context)]
    for n, caption in enumerate(info.captions):
        name = f"chunk {info.oldest + n}, age {n_chunks - 1 - n}"
        spans.append((name, caption, lefts[n_context + n * size], size))
    for name, caption, left, n_latents in spans:
        draw.text((left, bottom - 3 * LINE), name, FAINT, FONT)
        letters = n_latents * step // LETTER
        lines = textwrap.wrap(caption or "-", letters, max_lines=2, placeholder=" ...")
        draw.text((left, bottom - 2 * LINE), "\n".join(lines), INK, FONT)
    return row


def _title(info: WindowInfo) -> str:
    words = [info.clip, info.kind.replace("_", " "), f"reference {info.reference}"]
    words.append(f"memory {' '.join(map(str, info.memory))}, of stream latents")
    words += ["text dropped"] * info.drop_text + ["audio dropped"] * info.drop_audio
    return "; ".join([*words, f"weight {info.weight:g}"])


def latent_pictures(folder: DataFolder, window: Windows, geometry: Geometry) -> Frames:
    """One picture a latent, context first: [latents, THUMB, width, 3]."""
    info, size = window.infos[0], geometry.chunk_latents
    clip = next(clip for clip in folder.clips if clip.id == info.clip)
    first = info.oldest * size
    stream = range(first, first + len(info.captions) * size)
    # Stream latent j is frames stride j + 1 ... stride (j + 1) of the clip; the image is frame 0.
    stride = geometry.temporal_stride
    frames = [max(0, stride * j + 1 + stride // 2) for j in (*info.memory, *stream)]
    reference = folder.latents.read(clip.id, "reference_frames")[info.reference]
    try:
        return _video_frames(folder.path, clip, [int(reference), *frames], geometry)
    except ValueError as error:
        logger.warning("%s is shown by its latents: %s", clip.id, error)
        return np.concatenate([_colours(window.context), _colours(window.stream)])


def _video_frames(folder: Path, clip: Clip, frames: Sequence[int], geometry: Geometry) -> Frames:
    """Frames of a clip, from the video and the part of the picture that it was cut from."""
    facts = inspect_video(folder / clip.video)
    start, left, top, width, height = 0.0, 0, 0, facts.width, facts.height
    if clip.source is not None:
        start, left, top = clip.source.start, clip.source.x, clip.source.y
        width, height = clip.source.width, clip.source.height
    shown = facts.shown(geometry.fps)
    numbers = np.array(frames) + round(start * geometry.fps)
    wanted, order = np.unique(shown[numbers.clip(max=len(shown) - 1)], return_inverse=True)
    scale = THUMB / height
    reader = FrameReader(facts, round(facts.height * scale), round(facts.width * scale))
    pictures = reader.read(wanted)[order]
    x, y = round(left * scale), round(top * scale)
    return pictures[:, y : y + THUMB, x : x + round(width * scale)]


def _colours(latents: Tensor) -> Frames:
    """The first three channels of latents [1, C, F, H, W] as colours."""
    colours = latents[0, :3].float().permute(1, 2, 3, 0) / LATENT_RANGE
    pixels = colours.add(1).mul(127.5).clamp(0, 255).byte().numpy()
    width = round(THUMB * latents.shape[4] / latents.shape[3])
    return np.stack(
        [np.asarray(Image.fromarray(p).resize((width, THUMB), NEAREST)) for p in pixels]
    )


def _audio_strips(audio: Tensor, geometry: Geometry) -> list[Image.Image]:
    """The mean features of each latent's own frames, time to the right, in grey."""
    own = audio[:, geometry.window_left :][:, : geometry.temporal_stride].float().mean(dim=-1)
    low, high = own.min(), own.max()
    grey = ((own - low) / (high - low).clamp(min=1e-6) * 255).byte().numpy()
    return [Image.fromarray(latent[None]) for latent in grey]
