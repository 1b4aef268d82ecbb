"""What the arms do: the actions, and what the hands are up to in each state.

Every gesture fills the rows of one beat and goes on past their end, so that the next can take
over from motion rather than from rest. Its size, speed, side and count are drawn by chance.
"""

from collections.abc import Callable

import numpy as np

from flowact.data.actors.arm import INWARD, OUTWARD, PALM, UP, Arm, any_arm, arms, towards
from flowact.data.actors.behaviour import FPS
from flowact.data.actors.body import GRIP, Body
from flowact.data.actors.motion import Curve, bumps, min_jerk, seconds, stresses
from flowact.data.actors.tracks import Tracks

Gesture = Callable[[Tracks, Body, int, np.random.Generator], None]
"""Fills all rows of a part; the int is how many of them belong to the gesture's own beat."""


def gesticulate(part: Tracks, body: Body, rng: np.random.Generator) -> None:
    """Hands of one who speaks: often raised, with strokes on stressed syllables."""
    strokes = np.minimum(bumps(len(part), stresses(rng, part.mouth_open, 0.3), 2.8), 1.0)
    raised = rng.choice(("both", "one", "none"), p=(0.4, 0.35, 0.25))
    first = any_arm(part, rng)
    for arm in arms(part):
        if raised == "both" or (raised == "one" and arm.side == first.side):
            out, down = rng.uniform(0.2, 0.5), rng.uniform(0.45, 0.65) * body.torso
            reach = rng.uniform(0.05, 0.13)
            arm.hold(
                out + rng.uniform(0, 1) * reach * strokes,
                down - 0.04 + reach * strokes,
                rng.uniform(OUTWARD + 0.5, UP + 0.8) - 0.5 * strokes,
                str(rng.choice(("open", "relaxed"))),
            )
            arm.drift(rng, 0.02)
        else:
            arm.drift(rng, 0.008)


def ponder(part: Tracks, body: Body, rng: np.random.Generator) -> None:
    """Hands of one who thinks: one at the chin, more often than not."""
    for arm in arms(part):
        arm.drift(rng, 0.008)
    if rng.random() < 0.3:
        return
    arm = any_arm(part, rng)
    lift = rng.uniform(UP + 0.1, UP + 0.5)
    shape = str(rng.choice(("fist", "point", "relaxed")))
    reach = PALM if shape != "fist" else 0.6 * PALM
    tap = 0.015 * np.maximum(0, np.sin(2 * np.pi * rng.uniform(0.8, 1.6) * seconds(len(part))))
    out, down = towards(lift, reach)
    arm.hold(0.06 - out, body.chin[1] + 0.02 - down + tap, lift, shape)
    arm.follow_head(1.0)
    if rng.random() < 0.5:
        # The other forearm lies across and carries the elbow.
        support = Arm(part, -arm.side)
        support.hold(-0.2, 0.55 * body.torso, INWARD, "relaxed")
        arm.come_to_front()


def rest(part: Tracks, body: Body, rng: np.random.Generator) -> None:
    """Hands of one who does nothing: loose, or on the hips."""
    akimbo = rng.random(2) < 0.15
    for arm, on_hip in zip(arms(part), akimbo, strict=True):
        if on_hip:
            arm.hold(body.hip + 0.12, 0.88 * body.torso, INWARD + 0.5, "fist")
        arm.drift(rng, 0.01)


def wave(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    """An open hand beside the head swings in bouts."""
    time = seconds(len(part))
    rate, bout = rng.uniform(1.4, 2.5), rng.integers(2, 6)
    pause = rng.uniform(0.15, 0.6)
    period = bout / rate + pause
    cycle = (time + rng.uniform(0, 0.2)) % period
    edge = 0.15
    envelope = min_jerk(cycle / edge) * min_jerk((bout / rate - cycle) / edge + 1)
    swing = envelope * np.sin(2 * np.pi * rate * cycle) * rng.choice((-1, 1))
    arm = any_arm(part, rng)
    arm.hold(
        body.shoulder + rng.uniform(0.3, 0.42) + rng.uniform(0.05, 0.11) * swing,
        body.chin[1] - rng.uniform(0.1, 0.4) + 0.02 * envelope,
        UP - 0.1 - rng.uniform(0.2, 0.5) * swing,
        "open",
    )
    arm.drift(rng, 0.01)
    part.smile[:] += rng.uniform(0.25, 0.6)
    part.head[:, 2] += arm.side * rng.uniform(-0.2, 0.2)


def point_left(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    _point(part, body, 1, rng)


def point_right(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    _point(part, body, -1, rng)


def _point(part: Tracks, body: Body, side: int, rng: np.random.Generator) -> None:
    """An arm goes out to its side; some jab at what they point at, some look there."""
    arm = Arm(part, side)
    jab = rng.choice((0.0, rng.uniform(0.04, 0.1)))
    pulse = np.maximum(0, np.sin(2 * np.pi * rng.uniform(0.7, 1.6) * seconds(len(part)))) ** 2
    height = rng.uniform(-0.1, 0.35) * body.torso
    arm.hold(
        rng.uniform(0.78, 0.84) + jab * (pulse - 0.5),
        height,
        OUTWARD + rng.uniform(-0.1, 0.3),
        "point",
    )
    arm.drift(rng, 0.008)
    glances = rng.random() < 0.6
    part.head[:, 0] += side * glances * rng.uniform(0.15, 0.4)


def shrug(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    """Shoulders up, palms out, head aside; let down a little and lifted again by some."""
    pulse = np.cos(2 * np.pi * rng.uniform(0.3, 0.8) * seconds(len(part)))
    lift = 1 - rng.uniform(0.05, 0.3) * (0.5 - 0.5 * pulse)
    part.shrug[:] = lift
    out, down = rng.uniform(0.2, 0.36), rng.uniform(0.3, 0.5) * body.torso
    turn = rng.uniform(0.1, 0.6)
    for arm in arms(part):
        arm.hold(body.shoulder + out, down + 0.1 * (1 - lift), OUTWARD + turn, "open")
        arm.drift(rng, 0.012)
    part.head[:, 2] += rng.choice((-1, 1)) * rng.uniform(0.25, 0.5)
    part.brow[:] += rng.uniform(0.3, 0.7)
    part.smile[:] -= rng.uniform(0.2, 0.5)


def clap(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    """Both palms meet before the chest, again and again."""
    time = seconds(len(part))
    rate, width = rng.uniform(1.6, 2.8), rng.uniform(0.18, 0.34)
    gap = width * (0.5 + 0.5 * np.cos(2 * np.pi * rate * time))
    down = rng.uniform(0.3, 0.5) * body.torso
    lift = rng.uniform(UP + 0.2, UP + 0.6)
    for arm in arms(part):
        arm.hold(0.09 + gap, down + 0.25 * gap, lift - 0.8 * gap, "open")
    part.smile[:] += rng.uniform(0.2, 0.6)
    part.head[:, 1] += 0.08 * np.cos(2 * np.pi * rate * time)


def drink(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    """The hand nearest to the table takes the cup to the lips and puts it back."""
    grasp = 13 + int(rng.integers(0, 3))
    release = frames - int(rng.integers(2, 5))
    ways = np.array([grasp, grasp + rng.integers(11, 15), release - rng.integers(11, 15), release])
    if frames < 3 * FPS:
        ways[1:3] = grasp + 11, release - 11
    raised = _through(len(part), ways, (0.0, 1.0, 1.0, 0.0))
    sips = 1 + (frames > 3.4 * FPS) * int(rng.integers(0, 2))
    if sips == 2:
        pause = rng.uniform(0.35, 0.6)
        middle = (ways[1] + ways[2]) / 2 + np.array((-14, -4, 4, 14))
        raised -= pause * _through(len(part), middle, (0.0, 1.0, 1.0, 0.0))
    tilt = min_jerk((raised - 0.85) / 0.15)
    start = np.array([abs(body.cup[0]), body.cup[1]])
    lips = np.array([0.09, body.mouth[1] + 0.12])
    below = np.array([0.55, 0.5 * body.torso])
    u = raised[:, None]
    cup = (1 - u) ** 2 * start + 2 * u * (1 - u) * below + u**2 * lips
    lift = OUTWARD + (UP + 0.55 - OUTWARD) * raised
    out, down = towards(lift, GRIP)
    arm = Arm(part, body.table_side)
    # The table does not sway with the body.
    still = part.sway * (1 - u)
    arm.hold(cup[:, 0] - out - arm.side * still[:, 0], cup[:, 1] - down - still[:, 1], lift, "hold")
    arm.follow_head(min_jerk((raised - 0.6) / 0.4))
    held = slice(grasp, release + 1)
    part.cup[held] = 1
    part.cup_tilt[held] = (0.25 * raised + rng.uniform(0.4, 0.7) * tilt)[held]
    part.head[:, 1] -= rng.uniform(0.1, 0.3) * tilt
    part.smile[:] *= 1 - raised
    part.mouth_round[:] += 0.4 * tilt


def thumbs_up(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    """A fist before the chest with its thumb up, shown with small pushes."""
    push = np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * seconds(len(part)))
    arm = any_arm(part, rng)
    arm.hold(
        rng.uniform(0.25, 0.6),
        rng.uniform(0.15, 0.4) * body.torso + rng.uniform(0.0, 0.035) * push,
        INWARD + rng.uniform(-0.15, 0.25),
        "thumb",
    )
    arm.drift(rng, 0.012)
    part.smile[:] += rng.uniform(0.25, 0.6)
    part.head[:, 1] += rng.uniform(0.0, 0.08) * push


def fold_arms(part: Tracks, body: Body, frames: int, rng: np.random.Generator) -> None:
    """Forearms crossed before the chest; each hand lies at the other elbow."""
    upper = int(rng.choice((-1, 1)))
    across, down = rng.uniform(0.26, 0.36), rng.uniform(0.42, 0.52) * body.torso
    for arm in arms(part):
        arm.hold(-across, down - 0.05 * arm.side * upper, INWARD - 0.2, "relaxed")
        arm.drift(rng, 0.004)
    Arm(part, upper).come_to_front()
    part.head[:, 2] += rng.uniform(-0.15, 0.15)


GESTURES: dict[str, Gesture] = {
    "wave": wave,
    "point_left": point_left,
    "point_right": point_right,
    "shrug": shrug,
    "clap": clap,
    "drink": drink,
    "thumbs_up": thumbs_up,
    "fold_arms": fold_arms,
}


def _through(frames: int, times: Curve, values: tuple[float, ...]) -> Curve:
    """[frames] of minimum-jerk moves through ``values`` at ``times``, which are frames."""
    path = np.full(frames, values[0])
    index = np.arange(frames)
    for start, end, step in zip(times, times[1:], np.diff(values), strict=False):
        path += step * min_jerk((index - start) / (end - start))
    return path
