"""Captions of intervals from a vision-language model behind an OpenAI-compatible endpoint."""

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from flowact.data.actors.tracks import STATES
from flowact.data.frames import Frames
from flowact.data.manifest import Clip, Interval
from flowact.data.plan import Material
from flowact.data.settings import CaptionerConfig
from flowact.endpoint import (
    Endpoint,
    NoAnswerError,
    Part,
    image_part,
    is_sentence,
    text_part,
)
from flowact.geometry import Geometry

logger = logging.getLogger(__name__)

BEHAVIOUR = f"""These are frames, in order, of {{seconds:.1f}} seconds of a video of one person.
Answer with JSON alone: {{{{"state": one of {", ".join(STATES)}, "caption": "..."}}}}.
state: speak if they talk, listen if they attend to somebody, think if they ponder, else idle.
caption: one sentence in the present tense on what the person does: talking, gestures, gaze, head,
objects in hand, such as "She stops talking, listens and nods." Leave looks and surroundings out."""
APPEARANCE = """This is a frame of a video of one person.
Answer with JSON alone: {"caption": "..."}.
caption: one sentence on what stays the same: looks, clothes, surroundings, framing, style; nothing
that the person does."""


class Captioner:
    """Describes clips that nobody has described.

    A request that fails, or an answer that cannot be used, leaves its interval without a caption.

    Args:
        config: endpoint (there must be one), model, and how much is asked.
        geometry: of the clips.

    Attributes:
        failed: requests that gave no caption.
    """

    def __init__(self, config: CaptionerConfig, geometry: Geometry) -> None:
        self._config = config
        self._geometry = geometry
        self._endpoint = Endpoint(config)
        self.failed = 0

    def describe(self, material: Material) -> Clip:
        """The clip with captions of its intervals and of the person, where it has none."""
        clip = material.clip
        if clip.intervals:
            return clip
        spans = self._spans(clip)
        with ThreadPoolExecutor(self._config.parallel) as pool:
            intervals = pool.map(lambda span: self._interval(material.frames, span), spans)
            appearance = clip.appearance or self._appearance(material.frames[:1])
            found = tuple(interval for interval in intervals if interval is not None)
        return dataclasses.replace(clip, intervals=found, appearance=appearance)

    def _spans(self, clip: Clip) -> list[tuple[int, int]]:
        """Frames [start, stop) of each interval, after the reference frame."""
        length = self._config.interval_chunks * self._geometry.chunk_frames
        starts = range(1, clip.frames, length)
        return [(start, min(clip.frames, start + length)) for start in starts]

    def _interval(self, frames: Frames, span: tuple[int, int]) -> Interval | None:
        start, stop = span
        fps = self._geometry.fps
        picked = np.linspace(start, stop - 1, self._config.frames).round().astype(int)
        question = text_part(BEHAVIOUR.format(seconds=(stop - start) / fps))
        answer = self._ask([question, *map(image_part, frames[picked])])
        state, caption = answer.get("state"), answer.get("caption")
        if state not in STATES or not is_sentence(caption):
            self._give_up(f"an answer without state and caption: {answer}")
            return None
        return Interval(start / fps, stop / fps, str(state), str(caption).strip())

    def _appearance(self, frames: Frames) -> str:
        question = text_part(APPEARANCE)
        caption = self._ask([question, *map(image_part, frames)]).get("caption")
        if not is_sentence(caption):
            self._give_up("an answer without caption")
            return ""
        return str(caption).strip()

    def _ask(self, parts: list[Part]) -> dict[str, Any]:
        """The model's answer, empty if there is none."""
        try:
            return self._endpoint.ask(parts)
        except NoAnswerError as error:
            logger.debug("captioner: %s", error)
            return {}

    def _give_up(self, reason: str) -> None:
        self.failed += 1
        logger.debug("captioner: %s", reason)
