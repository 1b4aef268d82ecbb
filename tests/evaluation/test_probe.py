"""The probe: the same reading however the frames come, and, as it ships, a good one."""

import numpy as np
import pytest
import torch

from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.renderer import Renderer
from flowact.evaluation import probe_training as training
from flowact.evaluation.probe import (
    SHIPPED,
    Probe,
    cut_faces,
    load_probe,
    save_probe,
    signals,
    to_pixels,
    view,
)
from flowact.evaluation.probe_frames import CONTEXT_MARGIN, jittered, read_frames, write_frames
from flowact.evaluation.probe_networks import FACE_SIZE, IDENTITY_DIM, SIGNALS

VALIDATION = 800_000


@pytest.fixture(scope="module")
def shipped() -> Probe:
    return load_probe()


@pytest.fixture(scope="module")
def acted():
    """A clip of an actor whom no network has seen, its renderer and frames."""
    clip = make_clip(ActorSeeds.of(VALIDATION + 6), 150)
    renderer = Renderer(clip.identity, 128, 128)
    return clip, renderer, renderer.render(clip.tracks)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_it_is_small_and_tells_its_errors(shipped):
    assert SHIPPED.stat().st_size <= 3e6
    told = shipped.measured
    assert told["lip_sync_r"] >= 0.98
    assert told["action_accuracy"] >= 0.97
    assert told["identity_top1"] >= 0.99


def test_it_reads_an_actor_it_has_not_seen(shipped, acted):
    clip, renderer, frames = acted
    reading, true = shipped.read(frames), clip.tracks
    # 0.99 over many clips; one clip may have a cup before the mouth for a while.
    assert correlation(reading.mouth_open, true.mouth_open) > 0.95
    # Both go from -1 to 1.
    assert np.abs(reading.gaze - true.gaze).mean() < 0.1
    assert np.abs(reading.head - true.head).mean() < 0.1
    face = renderer.landmarks(true)["face"]
    # In fractions of the height: two pixels.
    assert np.abs(reading.face[:, :2] - face[:, :2]).mean() < 2 / 128


@pytest.mark.parametrize(("height", "width"), [(128, 192), (192, 128), (256, 256)])
def test_the_size_of_the_picture_changes_little(shipped, acted, height, width):
    clip, _, _ = acted
    renderer = Renderer(clip.identity, height, width)
    reading = shipped.read(renderer.render(clip.tracks))
    assert correlation(reading.mouth_open, clip.tracks.mouth_open) > 0.9
    face = renderer.landmarks(clip.tracks)["face"]
    assert np.abs(reading.face - face).mean() < 0.03


def test_blocks_of_frames_are_read_like_the_whole(shipped, acted):
    frames = acted[2][:90]
    whole = shipped.read(frames)
    blocks = shipped.read(iter([frames[:7], frames[7:50], frames[50:]]))
    for name in ("mouth_open", "wrists", "identity", "action"):
        # Batches of other sizes sum in another order; log-probabilities amplify that.
        assert np.allclose(getattr(whole, name), getattr(blocks, name), atol=2e-3), name


def test_a_view_and_its_inverse():
    points = torch.rand(5, 2)
    for height, width in ((48, 80), (80, 48), (64, 64)):
        views, frame = view(torch.zeros(2, 3, height, width))
        assert views.shape == (2, 3, 128, 128)
        assert torch.allclose(frame.to_picture(frame.to_view(points)), points, atol=1e-6)
        # The middle of the picture is the middle of the view.
        middle = torch.tensor([width / height / 2, 0.5])
        assert torch.allclose(frame.to_view(middle), torch.tensor([0.5, 0.5]))


def test_a_face_is_cut_where_it_is():
    pixels = torch.full((1, 3, 64, 96), -1.0)
    pixels[:, :, 20:30, 50:60] = 1.0
    face = torch.tensor([[55 / 64, 25 / 64, 10 / 64]])
    cut = cut_faces(pixels, face, size=30, margin=1.0)
    assert cut[:, :, 2:-2, 2:-2].min() > 0.99  # bilinear sampling softens the rim
    twice = cut_faces(pixels, face, size=40, margin=2.0)
    assert twice[0, 0, 20, 20] > 0.99
    assert twice[0, 0, 4, 20] < -0.99


def test_a_stored_face_is_cut_like_the_picture(acted):
    clip, renderer, frames = acted
    pixels = to_pixels(frames[:4])
    face = torch.from_numpy(renderer.landmarks(clip.tracks[:4])["face"])
    stored = cut_faces(pixels, face, 104, CONTEXT_MARGIN)
    again = jittered(stored, torch.zeros(4, 2), torch.ones(4))
    straight = cut_faces(pixels, face, FACE_SIZE)
    # Twice sampled is softer: a tenth of the range, on edges alone.
    assert (again - straight).abs().mean() < 0.05


def test_it_comes_back_as_it_was_saved(tmp_path, acted):
    probe = Probe().eval()
    probe.measured = {"mouth_open_r": 0.5}
    save_probe(probe, tmp_path / "probe.safetensors")
    loaded = load_probe(tmp_path / "probe.safetensors")
    assert loaded.measured == probe.measured
    frames = acted[2][:3]
    # Weights are stored in half precision.
    assert np.allclose(probe.read(frames).identity, loaded.read(frames).identity, atol=5e-3)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_what_is_no_probe_is_named(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"probe file .*other.safetensors"):
        load_probe(path)


def test_every_network_learns_from_what_is_rendered(tmp_path):
    write_frames(tmp_path, 0)
    views, faces = read_frames(tmp_path, "views"), read_frames(tmp_path, "faces")
    assert len(views) == len(faces) == 128
    assert len(faces.identity.unique()) == 16
    assert views.points.min() > -0.1
    assert views.points.max() < 1.1
    probe = Probe()
    probe.body = training.train_body(views, 2)
    probe.expression = training.train_expression(faces, 2)
    probe.person = training.train_person(faces, IDENTITY_DIM, 2)
    assert signals(probe.look(np.zeros((2, 128, 128, 3), np.uint8))).shape == (2, SIGNALS)
    training.write_signals(tmp_path, probe, 3, 60)
    probe.behaviour = training.train_behaviour(tmp_path, 2)
    assert probe.read(np.zeros((5, 128, 128, 3), np.uint8)).action.shape == (5, 9)


def test_frames_are_rendered_once(tmp_path):
    write_frames(tmp_path, 1)
    path = next(tmp_path.iterdir())
    first = path.read_bytes()
    path.write_bytes(b"kept")
    write_frames(tmp_path, 1)
    assert path.read_bytes() == b"kept"
    path.unlink()
    write_frames(tmp_path, 1)
    assert path.read_bytes() == first
