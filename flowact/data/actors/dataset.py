"""A data set of actors on disk: videos with sound, the truth of each, and their manifest."""

import json
import multiprocessing
import os
import shutil
import signal
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from flowact.data.actors.acoustics import augment
from flowact.data.actors.clip import ActorClip, ActorSeeds, make_clip
from flowact.data.actors.phones import SAMPLE_RATE
from flowact.data.actors.renderer import SMALLEST, Renderer
from flowact.data.actors.settings import MakeActorsConfig, Speech
from flowact.data.actors.speech import Synthesiser, best_synthesiser
from flowact.data.actors.tracks import Tracks
from flowact.data.claim import is_occupied
from flowact.data.manifest import Clip, from_json, to_json, write_manifest
from flowact.data.splits import derived_seed, split_of
from flowact.data.whole_file import whole_file
from flowact.geometry import Geometry
from flowact.media.writer import VideoWriter
from flowact.workers import end_with_parent

RECIPE = "dataset.json"
VIDEOS, TRUTH = "videos", "truth"
LANDMARK = "landmark."
"""Before the names of landmarks in truth files: some are those of tracks too."""
FPS = Geometry().fps


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a data set of actors is made from.

    Clip ``i`` has the seed ``seed + i // takes``; takes of one seed differ in their motion alone.

    Attributes:
        clips: how many.
        seconds: length of each, rounded to whole frames.
        seed: of the first clip.
        height, width: in pixels, both even.
        framing: head to hips, or the full body.
        takes: clips of each seed.
        synthesiser: of the speech.
        augment_speech: whether most clips sound as in other voices, rooms and recordings.

    Raises:
        ValueError: a number is out of range, or the seeds are not all of one split.
    """

    clips: int
    seconds: float
    seed: int
    height: int
    width: int
    framing: Literal["hips", "full"] = "hips"
    takes: int = 1
    synthesiser: Synthesiser = "formant"
    augment_speech: bool = False

    def __post_init__(self) -> None:
        for name in ("clips", "takes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 1 / FPS <= self.seconds < float("inf"):
            raise ValueError(f"seconds is {self.seconds}; it must be {1 / FPS}, a frame, or more")
        if min(self.width, self.height) < SMALLEST or self.width % 2 or self.height % 2:
            raise ValueError(
                f"resolution is {self.width}x{self.height}; give even sides, as H.264 needs them, "
                f"of {SMALLEST} pixels or more"
            )
        last = self.seed + (self.clips - 1) // self.takes
        splits = (split_of(self.seed), split_of(last))
        if splits[0] != splits[1]:
            raise ValueError(
                f"seeds {self.seed} to {last} go from the {splits[0]} to the {splits[1]} split; "
                "take fewer clips or another seed"
            )

    @classmethod
    def of(cls, config: MakeActorsConfig) -> Self:
        chosen = config.synthesiser
        return cls(
            clips=config.clips,
            seconds=config.seconds,
            seed=config.seed,
            height=config.height,
            width=config.width,
            framing=config.framing.value,
            takes=config.takes,
            synthesiser=best_synthesiser() if chosen is Speech.auto else chosen.value,
            augment_speech=config.augment_speech,
        )

    @property
    def frames(self) -> int:
        return round(self.seconds * FPS)

    def id(self, index: int) -> str:
        return f"actor-{self.seed + index // self.takes:07d}-t{index % self.takes}"

    def seeds(self, index: int) -> ActorSeeds:
        seeds = ActorSeeds.of(self.seed + index // self.takes)
        take = index % self.takes
        if take == 0:
            return seeds
        return replace(seeds, motion=derived_seed(seeds.motion, f"take {take}"))


DEFAULTS = {f.name: f.default for f in fields(Recipe) if f.default is not MISSING}
"""What a ``dataset.json`` means by the keys that it does not have."""


def write_dataset(
    output: Path, recipe: Recipe, workers: int | None = None, share: tuple[int, int] = (0, 1)
) -> list[Clip]:
    """Fill the folder ``output``: ``manifest.jsonl``, videos, truth and ``dataset.json``.

    Clips that an earlier run has completed are kept; a kill leaves no half-written file in place.

    Args:
        output: a new or empty folder, or one that was begun with the same recipe.
        workers: processes; None starts one per core, or as many fewer as there are that share.
        share: which of how many that fill the folder this is. Each makes its clips, and the last
            to end writes the manifest.

    Returns:
        The clips of this share.

    Raises:
        ValueError: ``output`` holds something else or cannot be written, the synthesiser is not
            installed, or a worker was killed.
    """
    _claim(output, recipe)
    rank, world = share
    own = range(recipe.clips)[rank::world]
    missing = [index for index in own if not _complete(output, recipe.id(index))]
    for index in missing:
        for stale in output.glob(f".{recipe.id(index)}.*"):  # of a run that was killed
            shutil.rmtree(stale, ignore_errors=True)
    workers = workers or max(1, (os.cpu_count() or 1) // world)
    workers = min(workers, max(1, len(missing)))
    made = _make_all(partial(_make_clip, output, recipe), missing, workers)
    with tqdm(total=len(own), initial=len(own) - len(missing), unit="clip", disable=None) as bar:
        for _ in made:
            bar.update()
    names = [recipe.id(index) for index in range(recipe.clips)]
    if all(_complete(output, name) for name in names):
        write_manifest(output, (_row(output, name) for name in names))
    return [_row(output, names[index]) for index in own]


def load_truth(path: str | Path) -> tuple[Tracks, dict[str, NDArray[np.float32]]]:
    """The tracks of a truth file, and the landmarks (see ``Renderer.landmarks``).

    Raises:
        ValueError: the file is not there, damaged, or not a truth file.
    """
    with _opened_truth(path) as file:
        arrays: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if absent := sorted({f.name for f in fields(Tracks)} - set(arrays)):
        raise ValueError(f"truth file {path} has no {', '.join(absent)}; make the data set anew")
    tracks = Tracks(**{f.name: arrays.pop(f.name) for f in fields(Tracks)})
    return tracks, {name.removeprefix(LANDMARK): array for name, array in arrays.items()}


def _claim(output: Path, recipe: Recipe) -> None:
    """Make ``output`` a folder of this recipe, unless it is one of something else."""
    told = {"split": split_of(recipe.seed), **asdict(recipe)}
    file = output / RECIPE
    occupied = is_occupied(output)  # looked at before the file, which others may write just now
    if file.is_file():
        theirs = DEFAULTS | _read_recipe(file)
        if differing := [key for key in told if theirs.get(key) != told[key]]:
            values = ", ".join(f"{key}={theirs.get(key)}" for key in differing)
            raise ValueError(f"{output} was made with {values}; give the same, or another folder")
    elif occupied:
        raise ValueError(f"output {output} is not an empty folder; name a new one")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as text:
            text.write(json.dumps(told, indent=2) + "\n")
        for name in (VIDEOS, TRUTH):
            (output / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"output {output} cannot be written: {error.strerror}") from error


def _read_recipe(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged; name another folder") from error


def _make_all(make: Callable[[int], None], indices: list[int], workers: int) -> Iterator[None]:
    """Clip after clip, as they are done; in this process if one worker is enough."""
    if workers == 1:
        yield from map(make, indices)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        try:
            yield from pool.map(make, indices)
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker was killed, perhaps for want of memory; run again with fewer workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    end_with_parent()
    # Interrupts are the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make_clip(output: Path, recipe: Recipe, index: int) -> None:
    """Make a clip's files aside, then rename them; its truth, which tells it is complete, last."""
    name = recipe.id(index)
    aside = output / f".{name}.{os.getpid()}"
    aside.mkdir()
    clip = make_clip(recipe.seeds(index), recipe.frames, recipe.synthesiser)
    samples = clip.soundtrack.samples
    if recipe.augment_speech:
        samples = augment(samples, clip.seeds.voice)
    renderer = Renderer(clip.identity, recipe.height, recipe.width, recipe.framing)
    sound, video, truth = (aside / f for f in ("sound.wav", "video.mp4", "truth.safetensors"))
    _write_sound(sound, samples)
    _write_video(video, sound, clip.tracks, renderer, recipe)
    landmarks = {LANDMARK + key: rows for key, rows in renderer.landmarks(clip.tracks).items()}
    row = to_json(_described(clip, name, recipe.frames))
    truth.write_bytes(save({**clip.tracks.arrays(), **landmarks}, metadata={"clip": row}))
    video.replace(_video(output, name))
    truth.replace(_truth(output, name))
    shutil.rmtree(aside)


def _write_sound(sound: Path, samples: NDArray[np.float32]) -> None:
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        whole = samples.clip(-1, 1) * np.iinfo(np.int16).max
        file.writeframes(whole.round().astype("<i2").tobytes())


def _write_video(
    video: Path, sound: Path, tracks: Tracks, renderer: Renderer, recipe: Recipe
) -> None:
    with VideoWriter(
        video, recipe.height, recipe.width, FPS, sound, metadata={}, made_by="drawing"
    ) as writer:
        for first in range(0, recipe.frames, FPS):  # a second at a time, for little memory
            writer.write(renderer.render(tracks[first : first + FPS]))


def _described(clip: ActorClip, name: str, frames: int) -> Clip:
    here = Path()
    return Clip(
        id=name,
        video=_video(here, name).as_posix(),
        fps=float(FPS),
        frames=frames,
        appearance=clip.appearance,
        intervals=clip.intervals,
        truth=_truth(here, name).as_posix(),
        seeds=asdict(clip.seeds),
    )


def _video(output: Path, name: str) -> Path:
    return output / VIDEOS / f"{name}.mp4"


def _truth(output: Path, name: str) -> Path:
    return output / TRUTH / f"{name}.safetensors"


def _complete(output: Path, name: str) -> bool:
    return _video(output, name).is_file() and _truth(output, name).is_file()


def _row(output: Path, name: str) -> Clip:
    """The clip's line of the manifest, which its truth file carries."""
    with _opened_truth(_truth(output, name)) as file:
        return from_json(file.metadata()["clip"])


@contextmanager
def _opened_truth(path: str | Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"truth file {path} cannot be read ({error}); delete it and make the data set again"
        ) from error
