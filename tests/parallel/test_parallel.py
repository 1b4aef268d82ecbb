"""A stream shared by processes is the stream of one, and costs the bytes that are counted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from share_a_stream import decoded, stream

from flowact.evaluation.benchmark import write_babble
from flowact.geometry import Geometry
from flowact.models.share import Place
from flowact.parallel.ranks import Ranks
from flowact.parallel.shares import share_out, shares
from flowact.settings import Parallel

HERE, REPOSITORY = Path(__file__).parent, Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, HERE, HERE.parent))),
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]

DECOUPLED = {"layer_pattern": ("spatial", "temporal"), "temporal_windows": (2, 2)}
STREAMS = {
    "full": {"transformer": {"layer_pattern": ("full",)}, "settings": {"refine_every": 2}},
    "decoupled": {"transformer": DECOUPLED, "settings": {}, "batch": 2},
    "joint": {
        "transformer": {"layer_pattern": ("full", "temporal"), "context_attention": "joint"},
        "settings": {"micro_steps": 2, "guidance": 2.0},
    },
    "joint_decoupled": {
        "transformer": DECOUPLED | {"context_attention": "joint"},
        "settings": {"audio_lag": 1},
    },
}
DECODERS = ("wan", "hunyuan15")
# Matrix products of fewer rows add up in another order, over six ticks; 2e-6 was seen.
ROUNDING = 2e-5


def launch(processes, *words):
    return subprocess.run(
        [*TORCHRUN, str(processes), *map(str, words)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=REPOSITORY,
    )


@pytest.fixture(scope="module", params=[2, 3])
def shared(request, tmp_path_factory):
    """Each stream by frames and by tokens; its latents and bytes, by name and rank."""
    folder = tmp_path_factory.mktemp("shared")
    words = [
        f"{name}.{way.name}={json.dumps({'parallel': way.name, **asked})}"
        for name, asked in STREAMS.items()
        for way in Parallel
    ]
    words += [f"{kind}={{}}" for kind in DECODERS]
    done = launch(request.param, HERE / "share_a_stream.py", folder, *words)
    assert not done.returncode, done.stderr
    return request.param, lambda name, rank: torch.load(folder / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def alone():
    return {name: stream(**asked) for name, asked in STREAMS.items()}


@pytest.mark.parametrize("way", list(Parallel))
@pytest.mark.parametrize("name", list(STREAMS))
def test_processes_stream_what_one_does(shared, alone, name, way):
    count, made = shared
    latents = [made(f"{name}.{way.name}", rank)[0] for rank in range(count)]
    assert all(torch.equal(latents[0], other) for other in latents)
    torch.testing.assert_close(latents[0], alone[name], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("kind", DECODERS)
def test_processes_decode_what_one_does(shared, kind):
    count, made = shared
    frames = [made(kind, rank) for rank in range(count)]
    assert all(torch.equal(frames[0], other) for other in frames)
    # Convolutions of fewer rows add up in another order; of values up to 1.
    torch.testing.assert_close(frames[0], decoded(kind), rtol=0, atol=1e-5)


def test_what_is_sent(shared):
    """By frames: keys and values of other ranks' latents, and velocities; spatial layers nothing.

    One layer of each kind, batch 2, float32, 24 tokens of 48 numbers, 4 of them in the end.
    """
    count, made = shared
    geometry = Geometry()
    expected = 0
    for tick in range(6):
        streamed = min(tick + 1, geometry.depth) * geometry.chunk_latents
        # The image in both its places; then what has left the queue.
        new = 2 if tick == 0 else int(tick >= geometry.depth)
        widest = -(-(streamed + new) // count)
        expected += 2 * 24 * 4 * (count - 1) * 2 * 48 * widest
        parts = shares(streamed + new, count)
        joined = max(part.stop - max(part.start, new) for part in parts)
        expected += 2 * 24 * 4 * (count - 1) * 4 * joined
    assert made("decoupled.frames", 0)[1] == expected


def test_shares_are_even_and_complete():
    for latents in range(12):
        for ranks in range(1, 10):
            parts = shares(latents, ranks)
            sizes = [part.stop - part.start for part in parts]
            assert max(sizes) - min(sizes) <= 1
            assert [n for part in parts for n in range(part.start, part.stop)] == [*range(latents)]
    assert Place(torch.zeros(5, 1), 3).of(slice(2, 4)).context == 1
    assert Place(torch.zeros(5, 1), 3).of(slice(4, 5)).context == 0


@pytest.mark.parametrize(
    ("transformer", "way", "said"),
    [
        ({"attention": "full"}, Parallel.frames, "runs on one process only"),
        ({}, Parallel.tokens, "deals 6 heads out to 4 processes"),
    ],
)
def test_what_cannot_be_shared_is_named(transformer, way, said):
    with pytest.raises(ValueError, match=said):
        stream(transformer, {}, share=lambda model: share_out(model, way, Ranks(0, 4)))


def sample(tmp_path, name, *words, seconds=1.0):
    sound = tmp_path / "sound.wav"
    write_babble(sound, seconds, Geometry())
    person = REPOSITORY / "flowact" / "assets" / "person.png"
    files = (f"image={person}", f"audio={sound}", f"output={tmp_path / name}")
    return ["scripts/sample.py", *files, "precision=fp32", "threads=1", *words]


def test_sampling_is_launched_by_torchrun(tmp_path):
    done = launch(2, *sample(tmp_path, "two.mp4", "parallel=frames"))
    assert not done.returncode, done.stderr
    assert done.stdout.count("two.mp4") == 1  # one process tells
    report = json.loads((tmp_path / "two.json").read_text())
    assert (report["parallel"], report["processes"]) == ("frames", 2)
    assert report["received_bytes_per_call"] > 0
    one = subprocess.run(
        [sys.executable, *sample(tmp_path, "one.mp4")], env=ENVIRONMENT, cwd=REPOSITORY
    )
    assert not one.returncode
    mine, other = (np.stack(frames(tmp_path / f"{name}.mp4")) for name in ("one", "two"))
    # One grey level here and there, through a lossy codec.
    assert np.abs(mine.astype(int) - other).mean() < 0.5


def frames(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_processes_that_share_nothing_are_refused(tmp_path):
    done = launch(2, *sample(tmp_path, "video.mp4"))
    assert done.returncode
    assert "give parallel=frames" in done.stderr
    done = subprocess.run(
        [sys.executable, *sample(tmp_path, "video.mp4", "parallel=frames")],
        env=ENVIRONMENT,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "launch it as torchrun" in done.stderr


def test_a_process_that_dies_ends_the_run(tmp_path, free_port):
    """The others say so at once; what was made stays playable."""
    words = [sys.executable, *sample(tmp_path, "video.mp4", "parallel=frames", seconds=60.0)]
    ranks = [
        subprocess.Popen(
            words,
            env=ENVIRONMENT
            | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)},
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    video = tmp_path / "video.mp4"
    deadline = time.monotonic() + 120
    while not (video.exists() and video.stat().st_size > 20_000):
        assert time.monotonic() < deadline
        assert ranks[0].poll() is None
        time.sleep(0.05)
    ranks[1].send_signal(signal.SIGKILL)
    _, said = ranks[0].communicate(timeout=60)
    ranks[1].communicate()
    assert ranks[0].returncode == 2
    assert "another process of this run has ended" in said
    assert "Traceback" not in said
    assert frames(video)
