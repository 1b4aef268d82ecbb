"""The mouth is where things move with the syllables, not where they move most."""

import numpy as np
import pytest

from flowact.evaluation.mouth_region import WHOLE, Box, find_mouth, mouth_motion
from flowact.evaluation.statistics import correlation

FPS = 25


@pytest.fixture(scope="module")
def talk():
    """Frames [250, 108, 72, 3] with a mouth, a hand that waves slowly below, and noise everywhere;
    and how loud the mouth speaks.
    """
    random = np.random.default_rng(0)
    loud = random.gamma(1, size=250)
    frames = 120 + random.normal(0, 2, size=(250, 108, 72, 1))
    for time, frame in enumerate(frames):
        frame[41:46, 17:27] += 40 * loud[time] * (-1) ** time
        hand = 45 + round(15 * np.sin(time / 8))
        frame[80:100, hand : hand + 10] += 90
    pixels = frames.clip(0, 255).astype(np.uint8).repeat(3, axis=-1)
    change = np.abs(np.diff(frames[:, 41:46, 17:27].mean((1, 2, 3)), prepend=120))
    return pixels, change.astype(np.float32)


def test_the_mouth_is_found_by_its_sound(talk):
    frames, loud = talk
    box = find_mouth([frames], loud, FPS)
    assert box.left <= 22 / 72 <= box.right
    assert box.top <= 43.5 / 108 <= box.bottom
    assert box.bottom - box.top < 0.2


def test_motion_in_the_box_follows_the_mouth(talk):
    frames, loud = talk
    inside = Box(17 / 72, 41 / 108, 27 / 72, 46 / 108)
    motion = mouth_motion(np.split(frames, [7, 100]), inside)
    assert len(motion) == len(frames)
    assert correlation(motion[1:], loud[1:]) > 0.9  # some of it is clipped at white
    elsewhere = mouth_motion([frames], Box(0, 0, 0.2, 0.2))
    assert abs(correlation(elsewhere[1:], loud[1:])) < 0.3


def test_without_sound_the_whole_picture_is_looked_at(talk):
    frames, loud = talk
    assert find_mouth([frames], 0 * loud, FPS) == WHOLE
    assert find_mouth([frames[:5]], loud[:5], FPS) == WHOLE


def test_a_single_frame_does_not_move(talk):
    assert mouth_motion([talk[0][:1]], Box(0, 0, 1, 1)).tolist() == [0]


@pytest.mark.parametrize("sides", [(0.5, 0, 0.5, 1), (0, 0.2, 1.2, 1), (-0.1, 0, 1, 1)])
def test_a_box_lies_in_the_picture(sides):
    with pytest.raises(ValueError, match=r"mouth_box is .*; give left, top, right, bottom from 0"):
        Box(*sides)
