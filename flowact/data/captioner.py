"""Captions of intervals from a vision-language model behind an OpenAI-compatible endpoint."""

import base64
import dataclasses
import io
import json
import logging
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from flowact.data.actors.tracks import STATES
from flowact.data.frames import Frames
from flowact.data.manifest import Clip, Interval
from flowact.data.plan import Material
from flowact.data.settings import CaptionerConfig
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
# Seconds before the second attempt; doubled each time.
BACKOFF = 1.0
JPEG_QUALITY = 90


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
        self._url = f"{str(config.url).rstrip('/')}/chat/completions"
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
        answer = self._ask(BEHAVIOUR.format(seconds=(stop - start) / fps), frames[picked])
        state, caption = answer.get("state"), answer.get("caption")
        if state not in STATES or not _usable(caption):
            self._give_up(f"an answer without state and caption: {answer}")
            return None
        return Interval(start / fps, stop / fps, str(state), str(caption).strip())

    def _appearance(self, frames: Frames) -> str:
        caption = self._ask(APPEARANCE, frames).get("caption")
        if not _usable(caption):
            self._give_up("an answer without caption")
            return ""
        return str(caption).strip()

    def _ask(self, text: str, frames: Frames) -> dict[str, Any]:
        """The JSON object of the model's answer; an empty one if there is none."""
        content = [{"type": "text", "text": text}, *map(_image_part, frames)]
        body = json.dumps(
            {
                "model": self._config.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": 300,
            }
        ).encode()
        for attempt in range(self._config.attempts):
            if attempt:
                time.sleep(BACKOFF * 2 ** (attempt - 1))
            try:
                return _parse(self._post(body))
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                logger.debug("captioner: attempt %d: %s", attempt + 1, error)
                if isinstance(error, urllib.error.HTTPError) and _hopeless(error.code):
                    break
        return {}

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._config.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)
        with urllib.request.urlopen(request, timeout=self._config.timeout) as response:
            answer: str = json.loads(response.read())["choices"][0]["message"]["content"]
        return answer

    def _give_up(self, reason: str) -> None:
        self.failed += 1
        logger.debug("captioner: %s", reason)


def _image_part(pixels: Frames) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def _parse(answer: str) -> dict[str, Any]:
    """The JSON object in an answer, which models like to wrap in words or a code fence."""
    value = json.loads(answer[answer.index("{") : answer.rindex("}") + 1])
    if not isinstance(value, dict):
        raise ValueError(f"no object: {answer[:80]!r}")
    return value


def _usable(caption: object) -> bool:
    return isinstance(caption, str) and bool(caption.strip())


def _hopeless(status: int) -> bool:
    """Whether the same request would be refused again: not when it was too early or too many."""
    return 400 <= status < 500 and status not in (408, 425, 429)
