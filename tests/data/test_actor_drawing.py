"""Laws of the drawing: what each track and each part of an identity changes, and where."""

from dataclasses import fields, replace

import numpy as np
import pytest

pytest.importorskip("skia", reason="actors are drawn with skia-python")

from flowact.data.actors.body import Body
from flowact.data.actors.drawing.pose import poses
from flowact.data.actors.identity import Identity
from flowact.data.actors.renderer import Renderer
from flowact.data.actors.tracks import HAND_SHAPES, Tracks, neutral_tracks

SIZE = 128


def moved(body: Body, **values: float | tuple[float, ...]) -> Tracks:
    """One frame at rest but for ``values``."""
    rest = neutral_tracks(body, 1)
    changes = {name: np.array([value], getattr(rest, name).dtype) for name, value in values.items()}
    return replace(rest, **changes)


def swept(body: Body, frames: int) -> Tracks:
    """A bit of everything, smoothly."""
    phase = np.linspace(0, 2 * np.pi, frames, dtype=np.float32)
    wave = np.sin(phase)
    rest = neutral_tracks(body, frames)
    return replace(
        rest,
        mouth_open=wave**2,
        head=np.stack([wave, -wave, wave], 1) * 0.8,
        gaze=np.stack([wave, wave], 1),
        blink=wave**2,
        right_hand=rest.right_hand + np.stack([-0.5 * wave**2, -(wave**2)], 1),
        right_shape=np.arange(frames).astype(np.int8) % len(HAND_SHAPES),
        cup=(np.arange(frames) % 2).astype(np.int8),
    )


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which pixels differ, [H, W]."""
    return np.any(first != second, axis=-1)


def inside(shape: tuple[int, int], x: float, y: float, half: float, tall: float) -> np.ndarray:
    """Pixels of a box; middle and half sides in fractions of the height."""
    rows, columns = (np.indices(shape) + 0.5) / shape[0]
    return (np.abs(columns - x) <= half) & (np.abs(rows - y) <= tall)


def picture(identity: Identity, tracks: Tracks, size: int = SIZE) -> np.ndarray:
    return Renderer(identity, size, size).render(tracks)[0]


class TestFrames:
    def test_same_seed_same_bytes(self):
        first, second = Identity.from_seed(5), Identity.from_seed(5)
        assert first == second
        tracks = swept(first.body, 6)
        frames = Renderer(first, 96, 96).render(tracks)
        assert np.array_equal(frames, Renderer(second, 96, 96).render(tracks))

    def test_a_slice_is_rendered_as_in_the_whole(self):
        identity = Identity.from_seed(6)
        tracks = swept(identity.body, 9)
        renderer = Renderer(identity, 96, 96)
        whole = renderer.render(tracks)
        assert np.array_equal(renderer.render(tracks[4:7]), whole[4:7])

    @pytest.mark.parametrize(("height", "width"), [(64, 64), (120, 208), (208, 120)])
    @pytest.mark.parametrize("framing", ["hips", "full"])
    def test_face_and_cup_are_in_the_picture(self, height, width, framing):
        for seed in range(12):
            identity = Identity.from_seed(seed)
            renderer = Renderer(identity, height, width, framing)
            tracks = neutral_tracks(identity.body, 1)
            assert renderer.render(tracks).shape == (1, height, width, 3)
            marks = renderer.landmarks(tracks)
            x, y, tall = marks["face"][0]
            cup = marks["cup"][0]
            assert tall / 2 < y < 1 - tall / 2
            assert 0.4 * tall < x < width / height - 0.4 * tall
            # The cup is at most 0.24 heads wide.
            assert 0.12 * tall < cup[0] < width / height - 0.12 * tall

    def test_twice_the_size_is_the_same_picture(self):
        for seed in range(3):
            identity = Identity.from_seed(seed)
            tracks = swept(identity.body, 3)[1:2]
            small = picture(identity, tracks).astype(np.float32)
            large = picture(identity, tracks, 2 * SIZE).astype(np.float32)
            halved = large.reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3))
            # Only the coverage of edge pixels, a few per cent of all, is rounded otherwise.
            assert np.abs(small - halved).mean() < 1.5

    def test_mouths_can_be_read_from_small_pictures(self):
        for seed in range(40):
            identity = Identity.from_seed(seed)
            marks = Renderer(identity, SIZE, SIZE).landmarks(neutral_tracks(identity.body, 1))
            assert 2 * SIZE * marks["mouth"][0, 2] >= 10
            assert 0.37 < marks["face"][0, 2] < 0.43

    def test_unknown_framing_is_refused(self):
        with pytest.raises(ValueError, match="framing is 'knees'"):
            Renderer(Identity.from_seed(0), 64, 64, "knees")

    def test_tiny_picture_is_refused(self):
        with pytest.raises(ValueError, match="8x64"):
            Renderer(Identity.from_seed(0), 8, 64)


VISIBLE: dict[str, float | tuple[float, ...]] = {
    "mouth_open": 0.3,
    "mouth_width": 1.0,
    "mouth_round": 1.0,
    "smile": 1.0,
    "gaze": (0.5, 0.0),
    "blink": 0.5,
    "brow": 0.6,
    "head": (0.3, 0.0, 0.0),
    "sway": (0.03, 0.0),
    "breath": 1.0,
    "shrug": 0.5,
    "right_hand": (-0.5, 0.4),
    "left_hand": (0.5, 0.4),
    "right_turn": 0.9,
    "left_turn": 2.2,
    "right_shape": 2,
    "left_shape": 1,
    "right_follow": 1.0,
    "left_follow": 1.0,
    "right_front": 0,
    "left_front": 1,
    "cup": 1,
    "cup_tilt": 0.6,
}
CROSSED = {"right_hand": (0.25, 0.5), "left_hand": (-0.25, 0.5)}
BEFORE: dict[str, dict[str, float | tuple[float, ...]]] = {
    "mouth_width": {"mouth_open": 0.2},
    "right_follow": {"head": (1.0, 0.0, 0.0)},
    "left_follow": {"head": (1.0, 0.0, 0.0)},
    "right_front": CROSSED,
    "left_front": CROSSED,
    "cup_tilt": {"cup": 1},
}


class TestTracks:
    def test_all_but_the_labels_are_looked_at(self):
        names = {field.name for field in fields(Tracks)}
        assert names - set(VISIBLE) == {"state", "action"}

    @pytest.mark.parametrize("name", VISIBLE)
    def test_every_track_is_visible(self, name):
        for seed in range(6):
            identity = Identity.from_seed(seed)
            before = BEFORE.get(name, {})
            rest = picture(identity, moved(identity.body, **before))
            after = picture(identity, moved(identity.body, **{**before, name: VISIBLE[name]}))
            difference = np.abs(rest.astype(int) - after).max(-1)
            # Sixteen pixels by a tenth of the range: about an iris, or the corners of closed lips.
            assert (difference > 25).sum() >= 16, seed

    def test_opening_the_mouth_changes_the_mouth_alone(self):
        for seed in range(8):
            identity = Identity.from_seed(seed)
            rest, wide = moved(identity.body), moved(identity.body, mouth_open=1.0)
            marks = Renderer(identity, SIZE, SIZE).landmarks(rest)
            x, y, half = marks["mouth"][0]
            near = inside((SIZE, SIZE), x, y, 1.3 * half, 0.25 * marks["face"][0, 2])
            difference = changed(picture(identity, rest), picture(identity, wide))
            assert difference.sum() > 30
            assert not (difference & ~near).any()

    def test_the_mouth_stays_in_the_face(self):
        heads = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
        for seed in range(8):
            identity = Identity.from_seed(seed)
            renderer = Renderer(identity, SIZE, SIZE)
            for head in heads:
                marks = renderer.landmarks(moved(identity.body, head=head))
                face, mouth = marks["face"][0], marks["mouth"][0]
                assert np.hypot(*(mouth[:2] - face[:2])) + mouth[2] < 0.62 * face[2]

    def test_the_right_hand_is_at_the_pictures_left(self):
        identity = Identity.from_seed(1)
        waving = moved(identity.body, right_hand=(-0.85, -0.5), right_turn=-1.5, right_shape=1)
        difference = changed(picture(identity, moved(identity.body)), picture(identity, waving))
        assert difference[:, : SIZE // 2].sum() > 300
        assert not difference[:, SIZE // 2 :].any()

    def test_the_cup_goes_with_the_hand_nearest_to_its_table(self):
        for seed in range(4):
            identity = Identity.from_seed(seed)
            side = "left" if identity.body.table_side > 0 else "right"
            held = moved(identity.body, cup=1, **{f"{side}_hand": (0.0, 0.2)})
            marks = Renderer(identity, SIZE, SIZE).landmarks(held)
            grip = np.hypot(*(marks["cup"][0] - marks[f"{side}_wrist"][0]))
            assert grip == pytest.approx(0.13 * marks["face"][0, 2], rel=1e-3)


class TestArms:
    def test_wrists_reach_what_actions_need(self):
        for seed in range(30):
            body = Identity.from_seed(seed).body
            side = "left" if body.table_side > 0 else "right"
            targets = {
                "cup": (side, body.cup),
                "mouth": ("right", body.mouth),
                "beside the head": ("left", (0.8, -0.6)),
                "opposite arm": ("right", (0.85 * body.shoulder, 0.45 * body.torso)),
            }
            for target in targets.values():
                hand, place = target
                pose = next(poses(moved(body, **{f"{hand}_hand": place}), body))
                wrist = next(a.wrist for a in pose.arms if (a.side > 0) == (hand == "left"))
                assert wrist == pytest.approx(place, abs=1e-5), target

    def test_too_far_is_clamped_to_the_arms_length(self):
        body = Identity.from_seed(0).body
        arm = next(poses(moved(body, right_hand=(-4.0, 3.0)), body)).arms[1]
        assert arm.side < 0
        reach = np.hypot(arm.wrist[0] - arm.shoulder[0], arm.wrist[1] - arm.shoulder[1])
        assert 0.9 * (body.upper_arm + body.forearm) < reach < body.upper_arm + body.forearm

    def test_elbows_never_jump(self):
        body = Identity.from_seed(2).body
        angles = np.linspace(0, 2 * np.pi, 721, dtype=np.float32)
        for radius in (0.25, 0.5, 0.8, 1.1):
            circle = np.stack([np.cos(angles), np.sin(angles)], 1) * np.float32(radius)
            tracks = replace(
                neutral_tracks(body, len(angles)),
                left_hand=circle + np.float32([body.shoulder, 0]),
            )
            elbows = np.array([pose.arms[0].elbow for pose in poses(tracks, body)])
            steps = np.hypot(*np.diff(elbows, axis=0).T)
            # The wrist moves at most 0.01 a step, and an elbow swings round faster than that.
            assert steps.max() < 0.06


class TestIdentities:
    def test_another_face_leaves_the_rest(self):
        for seed in range(6):
            identity = Identity.from_seed(seed)
            # Long sleeves: below them the other's skin is seen.
            identity = replace(identity, clothes=replace(identity.clothes, garment="sweater"))
            other = identity.with_face_of(Identity.from_seed(seed + 50))
            assert (other.clothes, other.scene, other.body) == (
                identity.clothes,
                identity.scene,
                identity.body,
            )
            tracks = neutral_tracks(identity.body, 1)
            marks = Renderer(identity, SIZE, SIZE).landmarks(tracks)
            x, y, tall = marks["face"][0]
            # The widest hats and the longest hair, and the hands with their rims.
            may_change = inside((SIZE, SIZE), x, y + 0.2 * tall, 0.75 * tall, 1.1 * tall)
            for name in ("right_wrist", "left_wrist"):
                may_change |= inside((SIZE, SIZE), *marks[name][0], 0.4 * tall, 0.4 * tall)
            difference = changed(picture(identity, tracks), picture(other, tracks))
            assert difference.sum() > 1000
            assert not (difference & ~may_change).any()

    def test_faces_alone_tell_identities_apart(self):
        first = Identity.from_seed(0)
        tracks = neutral_tracks(first.body, 1)
        faces = np.stack(
            [
                picture(first.with_face_of(Identity.from_seed(seed)), tracks, 64)[4:34, 16:48]
                for seed in range(100)
            ]
        ).astype(np.float32)
        distances = np.array([np.abs(faces - face).mean((1, 2, 3)) for face in faces])
        np.fill_diagonal(distances, np.inf)
        # Video noise of a few levels averages out over the 960 pixels of the crop.
        assert distances.min() > 5

    def test_captions_have_words_for_everything(self):
        for seed in range(60):
            words = Identity.from_seed(seed).words()
            assert set(words) == {"person", "hair", "clothes", "scene", "style", "accessories"}
            assert all(words[name] for name in words if name != "accessories")
            assert "{" not in "".join(words.values())

    def test_captions_name_the_second_colour_where_sleeves_show_it(self):
        actor = Identity.from_seed(0)

        def worn(garment, second):
            clothes = replace(
                actor.clothes,
                garment=garment,
                pattern="two-coloured",
                colour=(240, 240, 240),
                second=second,
            )
            return replace(actor, clothes=clothes).words()["clothes"]

        assert worn("shirt", (0, 0, 0)) == "a white and black shirt"
        assert worn("tank top", (0, 0, 0)) == "a white tank top"
        assert worn("shirt", (230, 230, 230)) == "a white shirt"
