"""From a folder of videos to what training reads (design 7).

A thread inspects videos and decodes clips ahead; the caller's thread encodes and stores them. The
unit that ranks share out is the video, the unit that is lost by a kill at most is the clip at work.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from flowact.data.captioner import Captioner
from flowact.data.encoders import Encoders, load_encoders
from flowact.data.focus import focus_maps
from flowact.data.manifest import MANIFEST, Clip, load_clips
from flowact.data.plan import ClipRules, Material, Plan, materials, plan_clips
from flowact.data.records import Records, check_settings, merge, write_rank_report
from flowact.data.scan import scan_folder
from flowact.data.settings import PreprocessConfig
from flowact.data.sheet import draw_sheet
from flowact.data.stages import StageTimes, ahead
from flowact.data.store import CacheWriter, caption_id
from flowact.data.windows import prompt_of
from flowact.ranks import rank_and_world
from flowact.runtime import UNTRAINED, resolve_device, resolve_dtype
from flowact.seeds import stable_seed

logger = logging.getLogger(__name__)

SHEETS = "sheets"
# Clips that wait to be encoded. Two, so that a slow one does not starve the encoders.
AHEAD = 2


def preprocess(config: PreprocessConfig) -> bool:
    """Preprocess this rank's share of the videos; the last rank to end writes the manifest.

    Returns:
        Whether all videos are done with, so that the manifest and the report are there.

    Raises:
        ValueError: the input holds nothing, or the output was made with other settings; never for
            a video, which is set aside with the reason.
    """
    rank, world = rank_and_world()
    folder, output = Path(config.input), Path(config.output)
    sources, problems = _sources(folder)
    dtype = resolve_dtype(config.precision, device := resolve_device(config.device))
    encoders = load_encoders(config.model, config.weights, config.seed, dtype, device)
    if config.weights is None and "latents" in config.caches:
        logger.warning("%s is %s", encoders.config.name, UNTRAINED)
    rules = _rules(config, encoders)
    decided = dataclasses.asdict(rules) | {"references": config.references, "seed": config.seed}
    del decided["threads"]  # which change nothing but the time
    # Other videos may have the same ids. Relative, as the paths of the clips are.
    decided["input"] = os.path.relpath(folder.resolve(), output.resolve())
    check_settings(output, decided)
    job = _Job(config, folder, rules, encoders, rank)
    job.run(sources[rank::world], {source.id for source in sources[: config.sheets]})
    return merge(output, [source.id for source in sources], problems)


def _sources(folder: Path) -> tuple[list[Clip], list[dict[str, str]]]:
    """The videos of the input, and entries for the quarantine where a line is none."""
    if not (folder / MANIFEST).exists():
        return scan_folder(folder), []
    clips, problems = load_clips(folder)
    if any(clip.source for clip in clips):
        raise ValueError(f"input={folder} is preprocessed already; give the folder it was made of")
    reasons: dict[str, list[str]] = {}
    for problem in problems:
        reasons.setdefault(f"line {problem.line}", []).append(str(problem))
    lines = [{"id": id, "video": "", "reason": "; ".join(found)} for id, found in reasons.items()]
    return clips, lines


def _rules(config: PreprocessConfig, encoders: Encoders) -> ClipRules:
    geometry = encoders.config.geometry
    sizes = config.sizes() or ((encoders.config.height, encoders.config.width),)
    for height, width in sizes:
        if height % geometry.spatial_stride or width % geometry.spatial_stride:
            raise ValueError(
                f"buckets has {width}x{height}; sides must be multiples of "
                f"{geometry.spatial_stride}"
            )
    return ClipRules(
        geometry,
        sizes,
        config.min_seconds,
        config.max_seconds,
        config.shots,
        config.audio_tolerance,
        config.threads,
    )


@dataclasses.dataclass(frozen=True)
class _Finished:
    """After the last clip of a video; ``reason`` says why it is set aside."""

    source: Clip
    seconds: float
    reason: str | None


class _Job:
    """One rank's work."""

    def __init__(
        self,
        config: PreprocessConfig,
        folder: Path,
        rules: ClipRules,
        encoders: Encoders,
        rank: int,
    ) -> None:
        self._config, self._folder, self._rules = config, folder, rules
        self._output = Path(config.output)
        self._encoders, self._rank = encoders, rank
        self._records = Records(self._output, rank)
        self._writers = {
            kind: CacheWriter(self._output, kind, encoders.made_by(kind), rank)
            for kind in config.caches
        }
        wanted = config.captioner.url is not None
        self._captioner = Captioner(config.captioner, rules.geometry) if wanted else None
        self._times = StageTimes()

    def run(self, sources: Sequence[Clip], sheets: set[str]) -> None:
        """Work through ``sources``, and draw sheets of those whose ids are in ``sheets``."""
        began, clips, set_aside = time.perf_counter(), 0, 0
        steps = ahead(self._steps(sources, sheets), AHEAD)
        with tqdm(total=len(sources), unit="video", desc=f"rank {self._rank}") as bar:
            for step in self._times.each("wait", steps):
                if isinstance(step, Material):
                    self._store(step)
                    clips += 1
                else:
                    self._records.finish(step.source, step.seconds, step.reason)
                    set_aside += step.reason is not None
                    bar.update()
                bar.set_postfix(clips=clips, set_aside=set_aside)
        for writer in self._writers.values():
            with self._times("write"):
                writer.close()
        self._records.close()
        values = {
            "clips": clips,
            "set_aside": set_aside,
            "captions_failed": self._captioner.failed if self._captioner else 0,
            "seconds": round(time.perf_counter() - began, 3),
            "stages": {name: round(spent, 3) for name, spent in self._times.seconds.items()},
        }
        write_rank_report(self._output, self._rank, values)

    # --- in the thread that works ahead -----------------------------------------------------------

    def _steps(self, sources: Sequence[Clip], sheets: set[str]) -> Iterator[Material | _Finished]:
        changed = 0
        for source in sources:
            known = self._records.clips(source.id)
            changed += bool(known) and self._records.changed(source)
            if not self._records.finished(source.id) or not all(map(self._stored, known.values())):
                yield from self._source(source, known, source.id in sheets)
        if changed:
            logger.warning(
                "%s has new lines for %d videos, whose clips stay as they were; for clips of the "
                "new lines give another output",
                self._folder / MANIFEST,
                changed,
            )

    def _source(
        self, source: Clip, known: dict[str, Clip], sheet: bool
    ) -> Iterator[Material | _Finished]:
        seconds, reason, rules, times = 0.0, None, self._rules, self._times
        try:
            with times("inspect"):
                plan = plan_clips(source, self._folder, self._output, rules)
            seconds = plan.facts.seconds
            clips = {clip.id: known.get(clip.id, clip) for clip in plan.clips}
            wanted = [c for c in clips.values() if c.id not in known or not self._stored(c)]
            for material in times.each("decode", materials(plan, wanted, rules)):
                if self._captioner:
                    with times("captions"):
                        described = self._captioner.describe(material)
                    material = dataclasses.replace(material, clip=described)
                    clips[described.id] = described
                yield material
            if sheet:
                with times("sheet"):
                    self._draw(dataclasses.replace(plan, clips=tuple(clips.values())))
        except ValueError as error:
            reason = str(error)
        except Exception as error:  # whatever a file makes a library do, the other files are good
            reason = f"{type(error).__name__}: {error}"
            logger.warning("%s: %s", source.video, reason)
        yield _Finished(source, seconds, reason)

    def _draw(self, plan: Plan) -> None:
        path = self._output / SHEETS / f"{plan.source.id}.png"
        path.parent.mkdir(exist_ok=True)
        draw_sheet(plan, self._rules, path)

    def _stored(self, clip: Clip) -> bool:
        """Whether every cache has what it should have of a clip."""
        ids = {kind: {clip.id} for kind in ("latents", "features")}
        ids["text"] = {caption_id(caption) for caption in _captions(clip)}
        return all(ids[kind] <= writer.done for kind, writer in self._writers.items())

    # --- in the caller's thread -------------------------------------------------------------------

    def _store(self, material: Material) -> None:
        """Encode a clip, and record it once all of it is on disk."""
        clip, times, encoders, writers = material.clip, self._times, self._encoders, self._writers
        if "latents" in writers and clip.id not in writers["latents"].done:
            with times("latents"):
                tensors = {"latents": encoders.latents(material.frames)}
                wave = torch.from_numpy(material.wave)
                tensors["focus"] = focus_maps(tensors["latents"], wave, self._rules.geometry)
            with times("references"):
                picked = self._references(clip)
                tensors["references"] = encoders.references(material.frames[picked])
                tensors["reference_frames"] = torch.from_numpy(picked)
            with times("write"):
                writers["latents"].add(clip.id, tensors)
        if "features" in writers and clip.id not in writers["features"].done:
            with times("features"):
                chunks = self._rules.geometry.chunks(clip.frames - 1)
                features = encoders.features(material.wave, chunks)
            with times("write"):
                writers["features"].add(clip.id, {"features": features})
        if "text" in writers:
            for caption in _captions(clip):
                if caption_id(caption) not in writers["text"].done:
                    with times("text"):
                        tensors = encoders.text(caption)
                    with times("write"):
                        writers["text"].add(caption_id(caption), tensors)
        with times("write"):
            self._records.add_clip(material.source, clip)

    def _references(self, clip: Clip) -> NDArray[np.int64]:
        """Frame 0 and others, drawn by the clip's id, that may stand for the person."""
        draw = np.random.default_rng(stable_seed(self._config.seed, "references", clip.id))
        count = min(self._config.references, clip.frames)
        others = draw.choice(np.arange(1, clip.frames), count - 1, replace=False)
        return np.concatenate([[0], np.sort(others)])


def _captions(clip: Clip) -> set[str]:
    """All prompts of a clip: the null text too, and what is said after its appearance."""
    captions = {"", *(interval.caption for interval in clip.intervals)}
    return captions | {prompt_of(clip.appearance, caption) for caption in captions}
