"""The picture of windows shows the frames that their latents stand for."""

from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from flowact.config import load_config
from flowact.data.data_folder import DataFolder
from flowact.data.manifest import Clip, Interval, Source, write_manifest
from flowact.data.store import CacheWriter
from flowact.data.windows import Choice, WindowsConfig
from flowact.evaluation.window_sheet import THUMB, latent_pictures, show_windows
from flowact.geometry import Geometry
from flowact.runs import ShowWindowsConfig

GEOMETRY, CHUNKS = Geometry(), 6
FRAMES = CHUNKS * GEOMETRY.chunk_frames + 1
BEFORE = 10  # frames of the video before the clip begins
STEP = 3  # of grey, from frame to frame


@pytest.fixture
def folder(tmp_path):
    """A clip cut from a video whose right half gets lighter by ``STEP`` a frame."""
    with av.open(str(tmp_path / "video.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=128, height=64)
        stream.pix_fmt = "bgr0"
        for n in range(BEFORE + FRAMES):
            pixels = np.full((64, 128, 3), 255, np.uint8)
            pixels[:, 64:] = STEP * n
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    latents = CacheWriter(tmp_path, "latents", {})
    values = torch.zeros(4, 1 + CHUNKS * GEOMETRY.chunk_latents, 4, 4)
    frames = torch.tensor([0, 30])
    tensors = {"latents": values, "references": values[:, :2], "reference_frames": frames}
    latents.add("a", tensors | {"focus": torch.ones(2, 4, 4)})
    features = torch.zeros(CHUNKS * GEOMETRY.chunk_latents, GEOMETRY.latent_window, 5)
    CacheWriter(tmp_path, "features", {}).add("a", {"features": features})
    source = Source("video.mkv", BEFORE / 25, 64, 0, 64, 64)
    caption = Interval(0.0, 1.5, "speak", "She says what is longer than the room below a chunk.")
    write_manifest(
        tmp_path, [Clip("a", "video.mkv", 25.0, FRAMES, intervals=(caption,), source=source)]
    )
    return tmp_path


def test_pictures_are_of_the_middle_of_each_latent(folder):
    data = DataFolder(folder, GEOMETRY)
    choice = Choice(oldest=2, reference=1, drop_text=False, drop_audio=False)
    window = data.window(0, 3, choice, WindowsConfig())
    pictures = latent_pictures(data, window, GEOMETRY)
    assert pictures.shape == (1 + 3 + 9, THUMB, THUMB, 3)
    # Reference frame 30; memory the image and stream latents 2 and 5; the stream 6 ... 14.
    frames = [30, 0, *(4 * j + 3 for j in (2, 5, *range(6, 15)))]
    grey = pictures[:, 8:-8, 8:-8].mean(axis=(1, 2, 3))
    shown = (grey / STEP - BEFORE).round().astype(int).tolist()
    assert shown == frames


def test_a_clip_without_its_video_is_shown_by_its_latents(folder, caplog):
    (folder / "video.mkv").unlink()
    data = DataFolder(folder, GEOMETRY)
    window = data.window(0, 3, Choice(2, 0, False, False), WindowsConfig())
    bright = replace(window, stream=window.stream + 9.0)
    pictures = latent_pictures(data, bright, GEOMETRY)
    assert (pictures[:4] == 127).all()
    assert (pictures[4:] == 255).all()
    assert "a is shown by its latents" in caplog.text


def test_the_sheet_is_written_from_the_command_line(folder, tmp_path):
    words = [f"data={folder}", f"output={tmp_path / 'sheet.png'}", "rows=3"]
    config = load_config("show_windows", [*words, "windows.start=[0,0,0]"], ShowWindowsConfig)
    assert config.windows == WindowsConfig(start=(0, 0, 0))
    show_windows(config)
    assert (tmp_path / "sheet.png").stat().st_size > 0
    with pytest.raises(ValueError, match="rows is 0"):
        load_config("show_windows", [*words, "rows=0"], ShowWindowsConfig)
