"""What an actor does is what the script says; how it moves is continuous, and the seed's own."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from flowact.data.actors.behaviour import FPS, PLAUSIBLE, Beat, make_script, speech_spans
from flowact.data.actors.body import GRIP, Body
from flowact.data.actors.clip import ActorClip, ActorSeeds, make_clip
from flowact.data.actors.identity import Identity
from flowact.data.actors.motion import BLINK_GAP
from flowact.data.actors.performance import perform
from flowact.data.actors.tracks import ACTIONS, HAND_SHAPES, STATES, Tracks

BODY = Identity.from_seed(1).body
HALF = FPS // 2
SEEDS = range(20)


def acted(action: str, seed: int, frames: int = 75, state: str = "idle") -> Tracks:
    """``action`` in the first of two beats."""
    script = (Beat(0, frames, state, action), Beat(frames, frames + 50, "idle", "none"))
    return perform(script, BODY, {}, seed)


def middle(tracks: Tracks, frames: int = 75) -> Tracks:
    """The frames in which an action has to be recognised."""
    return tracks[HALF : frames - HALF]


def hand(tracks: Tracks, side: int) -> np.ndarray:
    """Places of one wrist, [T, 2]: how far out of the body's middle, and down."""
    place = tracks.right_hand if side < 0 else tracks.left_hand
    return place * (side, 1)


def shape(tracks: Tracks, side: int) -> set[str]:
    indices = tracks.right_shape if side < 0 else tracks.left_shape
    return {HAND_SHAPES[index] for index in indices}


def cup_place(tracks: Tracks, body: Body) -> np.ndarray:
    """Where a cup in the hand would be, [T, 2], the head being upright."""
    right = body.table_side < 0
    wrist = tracks.right_hand if right else tracks.left_hand
    turn = tracks.right_turn if right else tracks.left_turn
    return wrist + tracks.sway + GRIP * np.stack([np.cos(turn), np.sin(turn)], 1)


# The script.


@pytest.mark.parametrize("frames", [1, 25, 99, 100, 151, 500, 1500])
def test_a_script_covers_its_clip_with_beats_of_two_to_six_seconds(frames: int) -> None:
    for seed in SEEDS:
        script = make_script(seed, frames)
        assert script[0].start == 0
        assert script[-1].end == frames
        for before, after in itertools.pairwise(script):
            assert before.end == after.start
            assert before.action == "none" or before.action != after.action
        lengths = [beat.end - beat.start for beat in script]
        assert frames < 100 or all(2 * FPS <= length <= 6 * FPS for length in lengths)
        assert all(beat.action in ("none", *PLAUSIBLE[beat.state]) for beat in script)


def test_every_action_and_state_is_frequent() -> None:
    beats = [beat for seed in range(200) for beat in make_script(seed, 500)]
    acting = [beat.action for beat in beats if beat.action != "none"]
    # An even share is 1/8 of the actions.
    assert all(0.09 < acting.count(action) / len(acting) < 0.17 for action in ACTIONS[1:])
    assert all(sum(beat.state == state for beat in beats) > 0.12 * len(beats) for state in STATES)
    assert 3 <= len(acting) / 200 <= 4


def test_speech_fills_the_speak_beats_and_nothing_else() -> None:
    for seed in SEEDS:
        script = make_script(seed, 500)
        spoken = np.zeros(500 * 10, bool)
        for start, end in speech_spans(script, seed):
            spoken[round(start * 10 * FPS) : round(end * 10 * FPS)] = True
        for beat in script:
            share = spoken[beat.start * 10 : beat.end * 10].mean()
            # At most 0.3 s at each end of a beat of 2 s or more are silent.
            assert share == 0 if beat.state != "speak" else share > 0.69


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="frames is 0"):
        make_script(1, 0)


# The clip.


@pytest.fixture(scope="module")
def clips() -> list[ActorClip]:
    return [make_clip(ActorSeeds.of(seed), 500) for seed in range(6)]


def test_the_same_seeds_make_the_same_clip() -> None:
    first, again = (make_clip(ActorSeeds.of(7), 200) for _ in range(2))
    assert first.intervals == again.intervals
    assert first.soundtrack.samples.tobytes() == again.soundtrack.samples.tobytes()
    for name, track in first.tracks.arrays().items():
        assert track.tobytes() == again.tracks.arrays()[name].tobytes(), name


def test_takes_differ_in_motion_alone(clips: list[ActorClip]) -> None:
    clip = clips[0]
    take = make_clip(replace(clip.seeds, motion=5), 500)
    assert take.intervals == clip.intervals
    assert take.appearance == clip.appearance
    assert take.identity == clip.identity
    assert np.array_equal(take.soundtrack.samples, clip.soundtrack.samples)
    for name in ("mouth_open", "state"):
        assert np.array_equal(getattr(take.tracks, name), getattr(clip.tracks, name))
    for name in ("right_hand", "left_hand", "head", "gaze", "blink", "sway", "breath", "brow"):
        assert not np.array_equal(getattr(take.tracks, name), getattr(clip.tracks, name)), name


def test_tracks_say_what_the_intervals_say(clips: list[ActorClip]) -> None:
    for clip in clips:
        for interval in clip.intervals:
            rows = clip.tracks[round(interval.start * FPS) : round(interval.end * FPS)]
            assert set(rows.state) == {STATES.index(interval.state)}
            onset = int(np.argmax(rows.action == ACTIONS.index(interval.action)))
            assert onset <= 2
            assert set(rows.action[:onset]) <= {ACTIONS.index("none")}
            assert set(rows.action[onset:]) == {ACTIONS.index(interval.action)}


def test_the_mouth_is_closed_where_nobody_speaks(clips: list[ActorClip]) -> None:
    for clip in clips:
        times = (np.arange(500) + 0.5) / FPS
        # Lips part and close within 0.2 s of a sound.
        near = [(p.start - 0.2 < times) & (times < p.end + 0.2) for p in clip.soundtrack.phones]
        speaking = np.any(near, axis=0) if near else np.zeros(500, bool)
        assert np.all(clip.tracks.mouth_open[~speaking] == 0)
        assert clip.tracks.mouth_open[clip.tracks.cup == 1].max(initial=0) == 0


def test_tracks_stay_in_their_ranges(clips: list[ActorClip]) -> None:
    for clip in clips:
        for name in ("smile", "gaze", "brow", "head", "mouth_width"):
            assert np.abs(getattr(clip.tracks, name)).max() <= 1
        for name in ("blink", "breath", "shrug", "mouth_open", "right_follow", "left_follow"):
            track = getattr(clip.tracks, name)
            assert track.min() >= 0
            assert track.max() <= 1


# Motion.


def test_nothing_jumps(clips: list[ActorClip]) -> None:
    for clip in clips:
        for side in (-1, 1):
            speed = np.linalg.norm(np.diff(hand(clip.tracks, side), axis=0), axis=1)
            # A minimum-jerk move peaks at 1.9 of its mean speed: from hip to above the shoulder,
            # 1.6 heads, in 10 frames, with a gesture's own motion on top.
            assert speed.max() < 0.36
        for name, most in (("right_turn", 0.9), ("left_turn", 0.9), ("head", 0.25)):
            assert np.abs(np.diff(getattr(clip.tracks, name), axis=0)).max() < most
        for name, most in (("sway", 0.01), ("breath", 0.1), ("shrug", 0.25), ("smile", 0.25)):
            assert np.abs(np.diff(getattr(clip.tracks, name), axis=0)).max() < most


def test_people_blink() -> None:
    blinks = 0
    for seed in SEEDS:
        blink = perform((Beat(0, 1500, "idle", "none"),), BODY, {}, seed).blink
        onsets = np.flatnonzero((blink[1:] > 0) & (blink[:-1] == 0))
        blinks += len(onsets)
        assert np.diff(onsets).max() <= BLINK_GAP[1] * FPS
        assert blink.max() == 1
        # A blink takes 0.16 or 0.2 s.
        assert np.count_nonzero(blink) <= 5 * (len(onsets) + 1)
    # Gaps of 2 to 6 s, with one in eight doubled: 16 blinks a minute.
    assert 13 < blinks / len(SEEDS) < 20


def test_who_thinks_looks_away_and_who_listens_nods() -> None:
    for seed in SEEDS:
        thinking = perform((Beat(0, 150, "think", "none"),), BODY, {}, seed)
        listening = perform((Beat(0, 150, "listen", "none"),), BODY, {}, seed)
        away = [np.mean(np.linalg.norm(t.gaze, axis=1) > 0.3) for t in (thinking, listening)]
        assert away[0] > 0.5 > away[1]
        assert np.ptp(listening.head[:, 1]) > 0.25


def test_a_clip_begins_at_rest() -> None:
    for action in ACTIONS[1:]:
        assert np.allclose(
            acted(action, 3)[:1].right_hand, acted("none", 3)[:1].right_hand, atol=0.05
        )


# Actions, from half a second after the start of their beat to half a second before its end.


@pytest.mark.parametrize("seed", SEEDS)
class TestActions:
    def test_wave(self, seed: int) -> None:
        tracks = middle(acted("wave", seed))
        raised = [s for s in (-1, 1) if shape(tracks, s) == {"open"}]
        assert len(raised) == 1
        place = hand(tracks, raised[0])
        assert place[:, 1].max() < BODY.chin[1]
        assert place[:, 0].min() > 0.6
        assert np.ptp(place[:, 0]) > 0.08

    def test_points_go_out_to_the_actors_own_side(self, seed: int) -> None:
        for action, side in (("point_left", 1), ("point_right", -1)):
            tracks = middle(acted(action, seed))
            assert shape(tracks, side) == {"point"}
            assert "point" not in shape(tracks, -side)
            assert hand(tracks, side)[:, 0].min() > BODY.shoulder + 0.15
            turn = tracks.right_turn if side < 0 else tracks.left_turn
            assert np.all(side * np.cos(turn) > 0.8)

    def test_shrug(self, seed: int) -> None:
        tracks = middle(acted("shrug", seed))
        assert tracks.shrug.min() > 0.6
        assert shape(tracks, -1) == shape(tracks, 1) == {"open"}
        assert hand(tracks, -1)[:, 0].min() > BODY.shoulder

    def test_clap(self, seed: int) -> None:
        tracks = middle(acted("clap", seed))
        gap = np.linalg.norm(tracks.right_hand - tracks.left_hand, axis=1)
        # Wrists of hands that touch are two half palms apart.
        assert gap.min() < 0.25
        assert gap.max() > gap.min() + 0.25
        meetings = (gap[1:-1] < gap[:-2]) & (gap[1:-1] < gap[2:])
        assert np.count_nonzero(meetings) >= 2

    @pytest.mark.parametrize("frames", [50, 75, 150])
    def test_drink(self, seed: int, frames: int) -> None:
        tracks = acted("drink", seed, frames)
        cup = tracks.cup[:frames] == 1
        changes = np.flatnonzero(np.diff(tracks.cup)) + 1
        assert len(changes) == 2
        place = cup_place(tracks, BODY)
        # The cup is where the table is on the frame that takes it, and on the last that holds
        # it, but for rounding of float32.
        assert np.allclose(place[[changes[0], changes[1] - 1]], BODY.cup, atol=1e-5)
        reached = np.linalg.norm(place[:frames][cup] - BODY.mouth, axis=1)
        assert reached.min() < 0.25
        assert np.all(tracks.cup_tilt[tracks.cup == 0] == 0)

    def test_thumbs_up(self, seed: int) -> None:
        tracks = middle(acted("thumbs_up", seed))
        raised = [s for s in (-1, 1) if shape(tracks, s) == {"thumb"}]
        assert len(raised) == 1
        place = hand(tracks, raised[0])
        assert np.all((place[:, 1] > 0) & (place[:, 1] < 0.5 * BODY.torso))

    def test_fold_arms(self, seed: int) -> None:
        tracks = middle(acted("fold_arms", seed))
        assert hand(tracks, -1)[:, 0].max() < -0.2
        assert hand(tracks, 1)[:, 0].max() < -0.2
        assert np.all(tracks.right_front != tracks.left_front)


def test_every_hand_is_within_reach(clips: list[ActorClip]) -> None:
    for clip in clips:
        body = clip.identity.body
        for side in (-1, 1):
            reach = np.linalg.norm(hand(clip.tracks, side) - (body.shoulder, 0), axis=1)
            assert reach.max() < body.upper_arm + body.forearm


def test_either_hand_waves_over_the_takes() -> None:
    used = {int(np.argmin([hand(middle(acted("wave", s)), side)[:, 1].min() for side in (-1, 1)]))
            for s in SEEDS}  # fmt: skip
    assert used == {0, 1}
