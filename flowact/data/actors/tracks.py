"""What an actor does, frame by frame: the input of the drawing and the truth of the video."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.body import Body

Array = NDArray[np.float32]
Labels = NDArray[np.int8]

STATES = ("speak", "listen", "think", "idle")
ACTIONS = (
    "none",
    "wave",
    "point_left",
    "point_right",
    "shrug",
    "clap",
    "drink",
    "thumbs_up",
    "fold_arms",
)
HAND_SHAPES = ("relaxed", "open", "fist", "point", "thumb", "hold")


@dataclass(frozen=True)
class Tracks:
    """All that moves, one row per frame at 25 frames per second.

    Right and left are the actor's own, so that the right hand is on the picture's left side.
    Positions are in the figure's space: x to the picture's right, y down, the origin between the
    shoulders, the unit the height of the head from crown to chin.

    Attributes:
        mouth_open: 0 closed to 1 wide open.
        mouth_width: -1 narrow, 0 at rest, 1 spread.
        mouth_round: 0 flat to 1 rounded and protruded.
        smile: -1 sad to 1 smiling, of the mouth's corners.
        gaze: [T, 2], of the eyes in the head, each -1 to 1; (0, 0) is the camera.
        blink: 0 open to 1 closed, of both eyelids.
        brow: -1 lowered to 1 raised.
        head: [T, 3], turn (1 to the picture's right), nod (1 down), tilt (1 to the picture's
            right shoulder), each -1 to 1.
        sway: [T, 2], shift of the whole upper body, in figure units.
        breath: 0 out to 1 in.
        shrug: 0 to 1, lift of both shoulders.
        right_hand, left_hand: [T, 2], positions of the wrists, in figure units, without sway.
        right_turn, left_turn: direction of the fingers in radians; 0 to the picture's right,
            pi / 2 down.
        right_shape, left_shape: indices into ``HAND_SHAPES``. A raised thumb stands at right
            angles to the fingers: up when they point to the other arm.
        right_follow, left_follow: 0 to 1, how far the hand goes along with the head's motion
            (1 when it touches chin or lips).
        right_front, left_front: 1 for an arm before the other one, 0 for one behind it.
        cup: 0 on its table, 1 in the hand nearest to the table.
        cup_tilt: radians, 0 upright, positive towards the mouth.
        state: index into ``STATES``.
        action: index into ``ACTIONS``; an action's frames are those from its onset to its end.
    """

    mouth_open: Array
    mouth_width: Array
    mouth_round: Array
    smile: Array
    gaze: Array
    blink: Array
    brow: Array
    head: Array
    sway: Array
    breath: Array
    shrug: Array
    right_hand: Array
    left_hand: Array
    right_turn: Array
    left_turn: Array
    right_shape: Labels
    left_shape: Labels
    right_follow: Array
    left_follow: Array
    right_front: Labels
    left_front: Labels
    cup: Labels
    cup_tilt: Array
    state: Labels
    action: Labels

    def __len__(self) -> int:
        return len(self.mouth_open)

    def __getitem__(self, frames: slice | NDArray[np.intp]) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[frames] for f in fields(self)})

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All tracks by name, as they are stored."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def neutral_tracks(body: Body, frames: int) -> Tracks:
    """``frames`` of ``body`` at rest, idle: hands loosely before the belly, everything else 0."""

    def track(*values: float) -> Array:
        return np.tile(np.array(values, np.float32), (frames, 1))

    def number(value: float = 0.0) -> Array:
        return np.full(frames, value, np.float32)

    def label(value: int = 0) -> Labels:
        return np.full(frames, value, np.int8)

    hand_height = 0.8 * body.torso
    return Tracks(
        mouth_open=number(),
        mouth_width=number(),
        mouth_round=number(),
        smile=number(),
        gaze=track(0, 0),
        blink=number(),
        brow=number(),
        head=track(0, 0, 0),
        sway=track(0, 0),
        breath=number(),
        shrug=number(),
        right_hand=track(-0.3, hand_height),
        left_hand=track(0.3, hand_height),
        right_turn=number(0.5),
        left_turn=number(np.pi - 0.5),
        right_shape=label(),
        left_shape=label(),
        right_follow=number(),
        left_follow=number(),
        right_front=label(1),
        left_front=label(),
        cup=label(),
        cup_tilt=number(),
        state=label(STATES.index("idle")),
        action=label(),
    )
