"""A process that speaks: pickled requests on its standard input, pickled speech on its output.

eSpeak keeps some state from one sentence to the next, which changes the samples. Every request is
therefore answered by a fresh fork (5 ms) of a process that has never spoken, so that equal
requests get equal answers. It ends when its input does.
"""

import os
import pickle
import sys
from typing import Any

import numpy as np
from parselmouth.praat import call

WORD_TIER, PHONE_TIER = 3, 4
WORD_GAP = 0.01  # seconds


def answer(request: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Sentence by sentence, until they last ``seconds`` together: samples float64 [n], intervals
    [(start, end, IPA symbol or "")] and the ends of words, in seconds."""
    synthesizer = call("Create SpeechSynthesizer", request["language"], request["variant"])
    settings = [request[key] for key in ("pitch", "pitch_range", "words_per_minute")]
    call(
        synthesizer, "Speech output settings...", request["sample_rate"], WORD_GAP, *settings, "IPA"
    )
    spoken: list[tuple[Any, ...]] = []
    seconds = 0.0
    for sentence in request["sentences"]:
        grid, sound = call(synthesizer, "To Sound", sentence, "yes")
        intervals = tier(grid, PHONE_TIER)
        heard = [interval for interval in intervals if interval[2]]
        seconds += heard[-1][1] - heard[0][0]
        words = [end for _, end, label in tier(grid, WORD_TIER) if label]
        spoken.append((np.array(sound.values[0]), intervals, words))
        if seconds >= request["seconds"]:
            break
    return spoken


def tier(grid: Any, number: int) -> list[tuple[float, float, str]]:
    return [
        (
            call(grid, "Get start time of interval", number, index),
            call(grid, "Get end time of interval", number, index),
            call(grid, "Get label of interval", number, index),
        )
        for index in range(1, call(grid, "Get number of intervals", number) + 1)
    ]


def serve() -> None:
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            pickle.dump(answer(request), sys.stdout.buffer)
            sys.stdout.flush()
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(1)  # which the asking side sees as the end of the answers


if __name__ == "__main__":
    serve()
