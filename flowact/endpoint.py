"""Questions to a multimodal language model behind an OpenAI-compatible endpoint."""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Seconds before the second attempt; doubled each time.
BACKOFF = 1.0
JPEG_QUALITY = 90
# Of a server, or of a reply that is none of the chat API's.
FAILURES = (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError)

Part = dict[str, Any]
"""Of a question, as the chat API takes it."""


@dataclass(kw_only=True)
class EndpointConfig:
    """Where a model is asked.

    Attributes:
        url: of the endpoint, such as http://localhost:8000/v1; None asks nobody.
        model: its name there.
        key_variable: the environment variable that holds the key, where one is needed.
        timeout: seconds to wait for an answer.
        attempts: before a question is given up.
    """

    url: str | None = None
    model: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    attempts: int = 4

    def check(self, name: str, above_zero: Sequence[str]) -> None:
        """Whether the settings, ``name`` of a command's words, can work.

        Raises:
            ValueError: they cannot, or one of ``above_zero`` is not.
        """
        for key in ("timeout", "attempts", *above_zero):
            if not 0 < getattr(self, key) < float("inf"):
                raise ValueError(
                    f"{name}.{key} is {getattr(self, key)}; it must be above 0, and finite"
                )
        if (self.url is None) != (self.model is None):
            raise ValueError(f"{name}.url and {name}.model go together: give both")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"{name}.url is {self.url}; it must start with http:// or https://")
        try:
            urlsplit(self.url or "").port  # noqa: B018 (which is read for its error)
        except ValueError as error:
            raise ValueError(f"{name}.url is {self.url}: {error}") from error


class NoAnswerError(Exception):
    """A model gave no answer that can be used; says why."""


class Endpoint:
    """Asks a model.

    Args:
        config: where; there must be a url.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._url = f"{str(config.url).rstrip('/')}/chat/completions"

    def ask(self, parts: Sequence[Part]) -> dict[str, Any]:
        """The JSON object of the model's answer.

        Raises:
            NoAnswerError: there is none, after all attempts.
        """
        body = json.dumps(
            {
                "model": self._config.model,
                "messages": [{"role": "user", "content": list(parts)}],
                "temperature": 0,
                "max_tokens": 300,
            }
        ).encode()
        why = ""
        for attempt in range(self._config.attempts):
            if attempt:
                time.sleep(BACKOFF * 2 ** (attempt - 1))
            try:
                return _parse(self._post(body))
            except FAILURES as error:
                why = f"{type(error).__name__}: {error}"
                if isinstance(error, urllib.error.HTTPError) and _hopeless(error.code):
                    break
        raise NoAnswerError(f"{self._url}, model {self._config.model}: {why}")

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._config.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)
        with urllib.request.urlopen(request, timeout=self._config.timeout) as response:
            answer: str = json.loads(response.read())["choices"][0]["message"]["content"]
        return answer


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


def image_part(pixels: NDArray[np.uint8]) -> Part:
    """A picture [H, W, 3], as JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_text_of(file)}"}}


def sound_part(samples: NDArray[np.float32], rate: int) -> Part:
    """Sound [n] in [-1, 1], ``rate`` samples a second, as 16-bit WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        whole = np.nan_to_num(samples).clip(-1, 1) * np.iinfo(np.int16).max
        sound.writeframes(whole.round().astype("<i2").tobytes())
    return {"type": "input_audio", "input_audio": {"data": _text_of(file), "format": "wav"}}


def is_sentence(answer: object) -> bool:
    """Whether a value of an answer can be told on."""
    return isinstance(answer, str) and bool(answer.strip())


def _text_of(file: io.BytesIO) -> str:
    return base64.b64encode(file.getvalue()).decode()


def _parse(answer: str) -> dict[str, Any]:
    """The JSON object in an answer, which models like to wrap in words or a code fence."""
    value = json.loads(answer[answer.index("{") : answer.rindex("}") + 1])
    if not isinstance(value, dict):
        raise ValueError(f"no object: {answer[:80]!r}")
    return value


def _hopeless(status: int) -> bool:
    """Whether the same request would be refused again: not when it was too early or too many."""
    return 400 <= status < 500 and status not in (408, 425, 429)
