import os

import pytest

from flowact.media.files import check_output


def test_outputs_are_checked_without_being_touched(tmp_path):
    image = tmp_path / "image.png"
    image.write_bytes(b"picture")
    track = tmp_path / "track.mp4"
    track.write_bytes(b"sound")
    os.link(track, tmp_path / "hard.mp4")
    (tmp_path / "soft.mp4").symlink_to(track)
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere" / "video.mp4")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    before = sorted(os.listdir(tmp_path))
    for name, message in (
        ("track.mp4", "also an input"),
        ("hard.mp4", "also an input"),
        ("soft.mp4", "also an input"),
        ("../" + tmp_path.name + "/track.mp4", "also an input"),
        ("folder.mp4", "is a directory"),
        (".", "is a directory"),
        ("video.avi", "must end in .mp4"),
        ("video", "must end in .mp4"),
        ("nowhere/video.mp4", "does not exist"),
        ("lost.mp4", "does not exist"),
        ("image.png/video.mp4", "does not exist"),
        ("pipe.mp4", "not a regular file"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            check_output(tmp_path / name, image, str(track))
        assert str(tmp_path / name) in str(error.value)
    assert check_output(tmp_path / "new.MP4", image, track) == tmp_path / "new.MP4"
    assert check_output(str(track), image) == track
    assert sorted(os.listdir(tmp_path)) == before
    assert track.read_bytes() == b"sound"


def test_a_place_without_permission_is_refused(tmp_path, monkeypatch):
    # The superuser may write anywhere, so the answer of the system is what is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ValueError, match="cannot be written: no permission"):
        check_output(tmp_path / "video.mp4")
