"""Pictures of an evaluation, drawn without a display."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from flowact.evaluation.drift import colour_distance, identity_distance, unit_mean
from flowact.evaluation.metrics import CLASSES
from flowact.evaluation.side_by_side import sheet
from flowact.evaluation.suites import Evaluation
from flowact.evaluation.takes import ActorTake, Take
from flowact.evaluation.video import read_frames

CLIPS = 3  # whose mouths and frames are shown
MOUTH_SECONDS = 8.0
SEEN, TRUE = "tab:blue", "tab:orange"

Array = NDArray[np.floating]


def draw(found: Evaluation, output: Path) -> list[Path]:
    """Save all plots that there is something for, as PNG beside ``output``; their paths."""
    saved = []
    for name, figure in _figures(found):
        path = output.with_name(f"{output.stem}-{name}.png")
        figure.savefig(path, dpi=110)
        saved.append(path)
    return saved


def draw_frames(columns: Mapping[str, Evaluation], output: Path) -> Path:
    """Save frames of the last column's first clips, above them what other columns have of them."""
    of_columns = [{take.id: take.video.path for take in c.takes} for c in columns.values()]
    ids = list(of_columns[-1])[:CLIPS]
    rows = [sheet([paths[id] for paths in of_columns if id in paths]) for id in ids]
    path = output.with_name(f"{output.stem}-frames.png")
    Image.fromarray(np.concatenate(rows)).save(path)
    return path


def _figures(found: Evaluation) -> Iterator[tuple[str, Figure]]:
    speaking = [take for take in found.takes if not take.quiet.all()] or found.takes
    yield "mouth", mouths(speaking[:CLIPS])
    yield "drift", drifts(found.takes)
    lag = "lip_sync_lag_s" if "lip_sync_lag_s" in found.scores else "av_offset_s"
    if lags := [row[lag] for row in found.clips if lag in row]:
        yield "lag", lag_histogram(np.array(lags), 1 / found.takes[0].fps)
    if found.confusion:
        yield "confusion", confusions(found.confusion)
    if boxed := [take for take in found.takes[:CLIPS] if take.box]:
        yield "box", boxes(boxed)


def mouths(takes: list[Take]) -> Figure:
    """How open each mouth was seen to be, with the truth where it is known, else with the sound."""
    figure = Figure((10, 2.4 * len(takes)), layout="constrained")
    for axes, take in zip(_column(figure, len(takes)), takes, strict=True):
        frames = slice(0, round(MOUTH_SECONDS * take.fps))
        seconds = np.arange(len(take.mouth))[frames] / take.fps
        if isinstance(take, ActorTake):
            true = take.tracks.mouth_open[frames]
            axes.plot(seconds[: len(true)], true, color=TRUE, lw=2, label="true")
            axes.plot(seconds, take.mouth[frames], color=SEEN, lw=1, label="seen")
            axes.set_ylabel("openness")
        else:
            axes.plot(seconds, _of_peak(take.loud[frames]), color=TRUE, lw=1, label="loudness")
            axes.plot(seconds, _of_peak(take.mouth[frames]), color=SEEN, lw=1, label="mouth")
            axes.set_ylabel("of the peak")
        axes.set_title(take.id, loc="left", fontsize="medium")
        axes.legend(loc="upper right", ncols=2, fontsize="small")
    axes.set_xlabel("seconds")
    return figure


def drifts(takes: list[Take]) -> Figure:
    """Drift over time: the median of all clips, and the middle 80 %."""
    curves = {
        "dE from the reference": [_colour(take) for take in takes],
        "sharpness, of the first s": [_sharpness(take) for take in takes],
        "motion, of 255": [_by_second(take.appearance.change, take.fps) for take in takes],
    }
    if known := [take for take in takes if take.identity is not None]:
        curves["identity, cosine distance"] = [_identity(take) for take in known]
    figure = Figure((10, 2.2 * len(curves)), layout="constrained")
    for axes, (label, lines) in zip(_column(figure, len(curves)), curves.items(), strict=True):
        _band(axes, lines, label)
    axes.set_xlabel("seconds")
    return figure


def lag_histogram(lags: Array, frame: float) -> Figure:
    """Lags of all clips, in bins of half a frame of ``frame`` seconds."""
    figure = Figure((6, 3), layout="constrained")
    axes = figure.subplots()
    most = max(float(np.abs(lags).max()), 2 * frame)
    bins = np.arange(-most - frame / 4, most + frame / 2, frame / 2)
    axes.hist(lags * 1000, bins=list(bins * 1000), color=SEEN)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("milliseconds by which the mouth is late")
    axes.set_ylabel("clips")
    return figure


def confusions(counts: dict[str, NDArray[np.int64]]) -> Figure:
    """What was seen where what was asked: shares of each row, with the numbers."""
    figure = Figure((5.5 * len(counts), 5), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(counts)))
    for axes, (kind, matrix) in zip(panels, counts.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
        names = [name.replace("_", " ") for name in CLASSES[kind]]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("seen")
        axes.set_ylabel("asked")
        axes.set_title(kind)
    return figure


def boxes(takes: list[Take]) -> Figure:
    """Where the mouth was looked for, on the first frame of each clip."""
    figure = Figure((4 * len(takes), 5), layout="constrained")
    for axes, take in zip(np.atleast_1d(figure.subplots(1, len(takes))), takes, strict=True):
        frame = next(read_frames(take.video, block=1))[0]
        height, width = frame.shape[:2]
        axes.imshow(frame)
        if box := take.box:
            corner = (box.left * width, box.top * height)
            size = ((box.right - box.left) * width, (box.bottom - box.top) * height)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="red", lw=2))
        axes.set_axis_off()
        axes.set_title(take.id, fontsize="medium")
    return figure


def _column(figure: Figure, count: int) -> list[Axes]:
    return list(np.atleast_1d(figure.subplots(count, 1, sharex=True)))


def _band(axes: Axes, curves: list[Array], label: str) -> None:
    """Median and 10th to 90th percentile of curves of different lengths, one value a second."""
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    low, middle, high = np.nanquantile(table, [0.1, 0.5, 0.9], axis=0)
    seconds = np.arange(table.shape[1]) + 0.5
    axes.fill_between(seconds, low, high, color=SEEN, alpha=0.25, lw=0)
    axes.plot(seconds, middle, color=SEEN)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)


def _by_second(series: Array, fps: float) -> Array:
    """Means over whole seconds, at least one."""
    seconds = max(1, int(len(series) / fps))
    return np.array([part.mean() for part in np.array_split(series, seconds)])


def _colour(take: Take) -> Array:
    lab = take.appearance.lab
    if isinstance(take, ActorTake):
        reference = take.reference.lab[0]
    else:
        reference = lab[: max(1, round(take.fps))].mean(axis=0)
    return _by_second(colour_distance(lab, reference), take.fps)


def _identity(take: Take) -> Array:
    assert take.identity is not None
    if isinstance(take, ActorTake):
        reference = take.people[0]
    else:
        reference = unit_mean(take.identity[: max(1, round(take.fps))])
    return _by_second(identity_distance(take.identity, reference), take.fps)


def _sharpness(take: Take) -> Array:
    by_second = _by_second(take.appearance.sharpness, take.fps)
    return by_second / max(by_second[0], 1e-6)


def _of_peak(series: Array) -> Array:
    return series / max(float(series.max()), 1e-6)
