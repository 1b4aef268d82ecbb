"""What a person does next, decided while they are streamed (paper 2.6).

At short intervals a planner is given the sound of the last seconds, and predicts an action, which
is the prompt of the chunks that enter from then on.
"""

import logging
import threading
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowact.endpoint import (
    Endpoint,
    EndpointConfig,
    NoAnswerError,
    image_part,
    is_sentence,
    sound_part,
    text_part,
)
from flowact.geometry import Geometry
from flowact.streaming.prompts import Prompt, PromptSchedule

logger = logging.getLogger(__name__)

QUESTION = """The picture shows a person who is streamed live. The sound is the last {heard:.1f}
seconds of what they say; where it is silent, they listen. They were told: {doing!r}
Answer with JSON alone: {{"action": "..."}}.
action: one sentence in the present tense on what the person does in the next {ahead:.1f} seconds,
as fits what they say: talking or not, gestures, gaze, head, such as "She stops talking, listens and
nods." Nothing that the picture does not allow; nothing on looks and surroundings."""


@dataclass(frozen=True)
class Moment:
    """What a planner is told.

    Attributes:
        heard: the latest sound before the end of what the chunk needs, float32 [n] at the
            geometry's rate; of the batch's first sample.
        doing: the prompt in force.
        ahead: seconds until it is asked again.
    """

    heard: NDArray[np.float32]
    doing: str
    ahead: float


Planner = Callable[[Moment], str | None]
"""The prompt that follows from a moment; None has no idea."""


class PlannedPrompts:
    """Prompts that a planner decides as the stream goes: a ``PromptSource``.

    A chunk's prompt is settled when the chunk enters, and stays; nothing is asked before there is
    sound. A planner that raises an error, or has no idea, leaves the prompt as it is; a warning
    tells of the first time.

    Args:
        planner: called in a thread of its own, or where the stream waits for it, in the stream's.
        geometry: of the stream.
        first: the prompt until there is a plan, and again when one has become old.
        every: chunks between questions.
        seconds: of sound that the planner is given, at most.
        wait: whether the stream waits for each answer. Sound that comes as it is spoken must not
            wait; a file, which is streamed faster than that, would be over before the answers.
        hold: chunks for which a plan is good; none by default is three times ``every``.

    Attributes:
        asked, failed: questions, and those without an answer.
    """

    def __init__(
        self,
        planner: Planner,
        geometry: Geometry,
        first: str = "",
        *,
        every: int = 5,
        seconds: float = 4.0,
        wait: bool = False,
        hold: int | None = None,
    ) -> None:
        hold = 3 * every if hold is None else hold
        for name, number in (("every", every), ("seconds", seconds), ("hold", hold)):
            if not 0 < number < float("inf"):
                raise ValueError(f"{name} is {number}; it must be above 0, and finite")
        self._planner = planner
        self._geometry = geometry
        self._first = first
        self._every = every
        self._wait = wait
        self._hold = hold
        self._samples = max(1, round(seconds * geometry.sample_rate))
        self._heard = np.zeros(0, np.float32)
        self._forgotten = 0  # samples before those
        self._changes = [(0, first)]  # chunks, and the prompts from them on
        self._newest = -1
        self._due = self._planned = 0
        self._answer: Future[str | None] | None = None
        self.asked = self.failed = 0

    def hear(self, samples: Tensor) -> None:
        """Sound as it comes in, [n] or [B, n]; what no later chunk needs is forgotten."""
        first = samples if samples.ndim == 1 else samples[0]
        self._heard = np.concatenate([self._heard, first.float().cpu().numpy()])
        needed = self._geometry.audio_end(self._newest + 1) - self._samples
        if (old := min(needed - self._forgotten, len(self._heard))) > 0:
            self._heard, self._forgotten = self._heard[old:], self._forgotten + old

    def at(self, chunk: int) -> str:
        """The prompt of ``chunk``; that of a new one is settled now, without waiting unless told
        to."""
        if chunk > self._newest:
            self._newest = chunk
            self._ask_if_due()
            self._take_answer()
            if self._now != self._first and chunk - self._planned >= self._hold:
                self._change(self._first)
        begun = bisect_right(self._changes, chunk, key=lambda change: change[0])
        return self._changes[begun - 1][1]

    @property
    def schedule(self) -> PromptSchedule:
        """What has been decided so far: with it instead, the same stream is made again."""
        length = self._geometry.chunk_seconds
        prompts = tuple(Prompt(chunk * length, text) for chunk, text in self._changes)
        return PromptSchedule(prompts, self._geometry)

    @property
    def _now(self) -> str:
        return self._changes[-1][1]

    def _change(self, text: str) -> None:
        if self._changes[-1][0] == self._newest:
            self._changes.pop()
        self._changes.append((self._newest, text))

    def _ask_if_due(self) -> None:
        if self._answer is not None or self._newest < self._due:
            return
        end = max(0, self._geometry.audio_end(self._newest) - self._forgotten)
        heard = self._heard[:end][-self._samples :]
        if not len(heard):
            return
        self._due = self._newest + self._every
        moment = Moment(heard, self._now, self._every * self._geometry.chunk_seconds)
        self._answer = Future()
        self.asked += 1
        if self._wait:
            _answer(self._answer, self._planner, moment)
        else:
            arguments = (self._answer, self._planner, moment)
            threading.Thread(target=_answer, args=arguments, daemon=True).start()

    def _take_answer(self) -> None:
        if self._answer is None or not self._answer.done():
            return
        error = self._answer.exception()
        plan = None if error is not None else self._answer.result()
        self._answer = None
        if plan is not None:
            self._planned = self._newest
            if plan != self._now:
                self._change(plan)
            return
        self.failed += 1
        if self.failed == 1:
            why = "no idea" if error is None else str(error)
            logger.warning("the planner gave no action (%s); the prompt stays as it is", why)


class EndpointPlanner:
    """A multimodal language model that sees the image and hears the sound (paper 2.6).

    Args:
        config: where it is.
        image: the reference, uint8 [H, W, 3].
        geometry: of the stream.
    """

    def __init__(
        self, config: EndpointConfig, image: NDArray[np.uint8], geometry: Geometry
    ) -> None:
        self._endpoint = Endpoint(config)
        self._image = image_part(image)
        self._rate = geometry.sample_rate

    def __call__(self, moment: Moment) -> str:
        """The prompt that the model answers with.

        Raises:
            NoAnswerError: it gives none that can be used.
        """
        seconds = len(moment.heard) / self._rate
        question = QUESTION.format(heard=seconds, doing=moment.doing, ahead=moment.ahead)
        sound = sound_part(moment.heard, self._rate)
        answer = self._endpoint.ask([text_part(question), self._image, sound])
        if not is_sentence(action := answer.get("action")):
            raise NoAnswerError(f"an answer without an action: {answer}")
        return str(action).strip()


def _answer(future: "Future[str | None]", planner: Planner, moment: Moment) -> None:
    try:
        future.set_result(planner(moment))
    except Exception as error:  # a planner's errors are not the stream's
        future.set_exception(error)
