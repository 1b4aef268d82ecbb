"""A window is what the stream's buffer holds at a tick, had it generated the clip."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from window_folders import REFERENCES, make_folder

from flowact.data.data_folder import DataFolder, Windows
from flowact.data.manifest import Clip, Interval, read_manifest, write_manifest
from flowact.data.store import CacheWriter
from flowact.data.window_dataset import WindowDataset
from flowact.data.windows import (
    Choice,
    Kind,
    WindowsConfig,
    choose,
    chunk_captions,
    kind_of,
    memory_latents,
    prompt_of,
    shapes,
)
from flowact.geometry import Geometry
from flowact.rng import keyed_normal
from flowact.settings import StreamSettings
from flowact.streaming.prompts import Prompt, PromptSchedule
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.state import Conditions

PAPER = Geometry()
OTHER = Geometry(chunk_latents=2, depth=4, long_term=2)
GEOMETRIES = pytest.mark.parametrize("geometry", [PAPER, OTHER], ids=["paper", "other"])
PLAIN = WindowsConfig(drop_text=0, drop_audio=0, drop_both=0, other_reference=0)


def plain(geometry, **changes):
    start = (0.1,) * geometry.depth
    return replace(PLAIN, **({"start": start} | changes))


def chosen(oldest, reference=0, drop_text=False, drop_audio=False, appearance=False):
    return Choice(oldest, reference, drop_text, drop_audio, appearance)


def numbers(latents):
    """Which stream latents these are."""
    return latents[0, 1, :, 0, 0].int().tolist()


@GEOMETRIES
@pytest.mark.parametrize("stride", [1, 2, 4])
@torch.no_grad()
def test_windows_are_the_buffer_of_the_stream(
    make_transformer, make_text, tmp_path, geometry, stride
):
    """The stream runs, and whatever it finishes is taken for the clip's own latents."""
    n_chunks = geometry.depth + 9
    clip = keyed_normal((1, 4, 1 + n_chunks * geometry.chunk_latents, 4, 6), "clip")
    latents = CacheWriter(tmp_path, "latents", {})
    tensors = {"latents": clip[0], "references": clip[0, :, :1], "focus": torch.ones(2, 4, 6)}
    latents.add("clip0", tensors)
    make_folder(tmp_path / "told", [n_chunks], geometry)
    (tmp_path / "manifest.jsonl").write_text((tmp_path / "told" / "manifest.jsonl").read_text())
    folder = DataFolder(tmp_path, geometry, audio=False, long_term_stride=stride)
    config = plain(geometry)

    model = make_transformer(audio_feature_dim=None)
    sampler = StreamSampler(model, geometry, StreamSettings(long_term_stride=stride))
    text = model.encode_text(make_text())
    state = sampler.start(clip[:, :, :1], (0,))
    for tick in range(n_chunks):
        in_queue = [*(chunk.index for chunk in state.queue), tick]
        window = folder.window(0, len(in_queue), chosen(in_queue[0]), config)
        memory = torch.cat([entry.latent for entry in state.memory.entries], dim=2)
        assert torch.equal(window.context, memory)
        size = geometry.chunk_latents
        in_clip = slice(1 + in_queue[0] * size, 1 + (in_queue[-1] + 1) * size)
        assert torch.equal(window.stream, clip[:, :, in_clip])

        done = sampler.tick(state, Conditions((text,) * len(in_queue)))
        state = done.state
        if done.finished is not None:
            last = 1 + (done.finished.index + 1) * size - 1
            state = replace(state, memory=state.memory.refined(clip[:, :, last : last + 1]))


@GEOMETRIES
@pytest.mark.parametrize("stride", [1, 3])
def test_shapes_part_all_windows(geometry, stride):
    """Each window of a clip has one shape, and windows of one shape have one size of memory."""
    n_chunks = 4 * stride + geometry.depth + 3
    starts, others = shapes(geometry, stride)
    assert [shape.chunks for shape in starts] == list(range(1, geometry.depth + 1))
    assert all(list(shape.oldest(n_chunks)) == [0] for shape in starts)
    covered = [k for shape in others for k in shape.oldest(n_chunks)]
    assert sorted(covered) == list(range(1, n_chunks - geometry.depth + 1))
    for shape in others:
        memory = {len(memory_latents(k, geometry, stride)) for k in shape.oldest(n_chunks)}
        assert len(memory) == 1
    for too_short in range(geometry.depth):
        assert not any(shape.oldest(too_short) for shape in others)


def test_windows_without_long_term_memory():
    _, others = shapes(Geometry(long_term=0), 1)
    assert [list(shape.oldest(6)) for shape in others] == [[1, 2, 3]]
    assert memory_latents(2, Geometry(long_term=0), 1) == (5,)


@GEOMETRIES
def test_captions_are_those_the_stream_would_be_told(geometry):
    """A clip's frame 1 is the stream's frame 0: a schedule with the intervals' starts agrees."""
    n_chunks, frame = 20, 1 / geometry.fps
    edges = [0.0, 0.7, 1.9, 3.3, 100.0]
    captions = ["a", "b", "c", "d"]
    intervals = [
        Interval(start, end, "", caption)
        for start, end, caption in zip(edges, edges[1:], captions, strict=False)
    ]
    schedule = PromptSchedule(
        tuple(Prompt(max(0.0, i.start - frame), i.caption) for i in intervals),
        geometry,
    )
    expected = tuple(schedule.at(chunk) for chunk in range(n_chunks))
    assert chunk_captions(intervals, n_chunks, geometry) == expected
    assert len(set(expected)) > 2


def test_gaps_have_no_caption():
    intervals = [Interval(0.4, 0.9, "", "a"), Interval(2.0, 9.0, "", "b")]
    # Prompt frames of the clip: 7, 19, 31, 43, 55, that is .28, .76, 1.24, 1.72 and 2.2 s.
    assert chunk_captions(intervals, 5, PAPER) == ("", "a", "", "", "b")
    assert chunk_captions([], 2, PAPER) == ("", "")


def test_kinds():
    captions = ("a", "a", "a", "a", "b", "b", "b")
    kinds = [kind_of(oldest, 3, captions) for oldest in range(5)]
    assert kinds == [
        Kind.CLIP_START,
        Kind.INTRA_PROMPT,
        Kind.CROSS_PROMPT,
        Kind.CROSS_PROMPT,
        Kind.INTRA_PROMPT,
    ]


@GEOMETRIES
def test_audio_captions_and_slots_of_a_window_are_of_its_latents(tmp_path, geometry):
    folder = DataFolder(make_folder(tmp_path / "data", [8], geometry, seconds=0.5), geometry)
    size, captions = geometry.chunk_latents, folder.captions(0)
    config = plain(geometry, start_weight=0.5)
    for chunks, oldest in [(1, 0), (geometry.depth, 0), (geometry.depth, 3)]:
        window = folder.window(0, chunks, chosen(oldest), config)
        info = window.infos[0]
        stream = list(range(oldest * size, (oldest + chunks) * size))
        assert numbers(window.stream) == stream
        assert numbers(window.context) == [-10, *info.memory]
        assert len(info.memory) == len(geometry.slots(min(oldest, geometry.long_term))) - 1
        # Features tell 1 + their stream latent, so that zero is null.
        assert window.audio.shape == (1, len(stream), geometry.latent_window, 2)
        assert (window.audio[0, :, 0, 0] - 1).int().tolist() == stream
        assert window.memory_audio.shape == (1, 1, geometry.latent_window, 2)
        assert window.memory_audio[0, 0, 0, 0] == oldest * size
        assert info.captions == captions[oldest : oldest + chunks]
        assert info.memory_caption == (captions[oldest - 1] if oldest else "")
        assert info.weight == (1.0 if oldest else 0.5)
        assert (info.clip, info.oldest) == ("clip0", oldest)


def test_dropped_conditions_are_null_and_nothing_else_changes(tmp_path):
    folder = DataFolder(make_folder(tmp_path / "data", [8]), PAPER)
    full = folder.window(0, 3, chosen(2), PLAIN)
    bare = folder.window(0, 3, chosen(2, drop_text=True, drop_audio=True), PLAIN)
    assert bare.infos[0].captions == ("", "", "")
    assert bare.infos[0].memory_caption == ""
    assert bare.audio.shape == full.audio.shape
    assert not bare.audio.any()
    assert not bare.memory_audio.any()
    assert torch.equal(bare.stream, full.stream)
    assert torch.equal(bare.context, full.context)
    assert bare.infos[0].kind is full.infos[0].kind


def test_a_prompt_says_who_is_seen_and_then_what_is_done():
    assert prompt_of("A man in red", "He waves.") == "A man in red. He waves."
    assert prompt_of("A man in red. ", "He waves.") == "A man in red. He waves."
    assert prompt_of("A man in red", "") == "A man in red."
    assert prompt_of("", "He waves.") == "He waves."
    assert prompt_of("", "") == ""


def test_windows_that_say_who_is_seen_do_so_in_every_chunk(tmp_path):
    path = make_folder(tmp_path / "data", [8, 8])
    write_manifest(path, [replace(clip, appearance="A man") for clip in read_manifest(path)])
    folder = DataFolder(path, PAPER)
    plain, full = (folder.window(0, 3, chosen(2, appearance=a), PLAIN) for a in (False, True))
    assert plain.infos[0].captions == ("1", "1", "2")
    assert full.infos[0].captions == ("A man. 1", "A man. 1", "A man. 2")
    assert full.infos[0].memory_caption == f"A man. {plain.infos[0].memory_caption}"
    assert full.infos[0].kind is plain.infos[0].kind
    in_gaps = folder.window(1, 3, chosen(0, appearance=True), PLAIN).infos[0]
    assert in_gaps.captions == ("A man.",) * 3
    assert in_gaps.memory_caption == ""  # the image has none
    dropped = folder.window(0, 3, chosen(2, drop_text=True, appearance=True), PLAIN).infos[0]
    assert dropped.captions == ("", "", "")


def test_another_reference_takes_the_first_slot_alone(tmp_path):
    folder = DataFolder(make_folder(tmp_path / "data", [8]), PAPER)
    first = folder.window(0, 3, chosen(1), PLAIN)
    other = folder.window(0, 3, chosen(1, reference=2), PLAIN)
    assert numbers(first.context) == [-10, -1, 2]
    assert numbers(other.context) == [-12, -1, 2]


def draws(shape, captions, config, n=4000):
    rng = np.random.default_rng(0)
    return [choose(shape, captions, REFERENCES, config, rng) for _ in range(n)]


def assert_near(count, n, p):
    """Within five standard deviations of a binomial count."""
    assert abs(count - n * p) < 5 * (n * p * (1 - p)) ** 0.5 + 1e-9


def test_choices_have_the_probabilities_of_the_config():
    captions = ("a",) * 8 + ("b",) * 8
    last = shapes(PAPER, 1)[1][-1]
    config = WindowsConfig(
        cross_prompt=0.5,
        other_reference=0.4,
        appearance=0.35,
        drop_text=0.3,
        drop_audio=0.15,
        drop_both=0.05,
    )
    made = draws(last, captions, config)
    n = len(made)
    kinds = Counter(kind_of(choice.oldest, 3, captions) for choice in made)
    assert_near(kinds[Kind.CROSS_PROMPT], n, 0.5)
    assert {choice.oldest for choice in made} == set(last.oldest(len(captions)))
    references = Counter(choice.reference for choice in made)
    assert_near(references[0], n, 0.6)
    assert_near(references[2], n, 0.2)
    dropped = Counter((choice.drop_text, choice.drop_audio) for choice in made)
    assert_near(dropped[True, False], n, 0.3)
    assert_near(dropped[False, True], n, 0.15)
    assert_near(dropped[True, True], n, 0.05)
    assert_near(sum(choice.appearance for choice in made), n, 0.35)


def test_a_clip_gives_what_it_has():
    """One caption gives no cross-prompt window; a start has its own image as reference."""
    starts, others = shapes(PAPER, 1)
    wishes = WindowsConfig(cross_prompt=1.0, other_reference=1.0)
    assert {c.oldest for c in draws(others[-1], ("",) * 7, wishes, 200)} == {3, 4}
    assert {c.reference for c in draws(starts[-1], ("",) * 7, wishes, 50)} == {0}
    rng = np.random.default_rng(0)
    assert choose(others[0], ("",) * 7, 1, wishes, rng).reference == 0


def test_a_sample_is_a_function_of_its_index_and_seed(tmp_path):
    path = make_folder(tmp_path / "data", [8, 8, 9, 12])

    def infos(seed, order):
        dataset = WindowDataset({path: 1.0}, PAPER, WindowsConfig(), micro_batch=2, seed=seed)
        return {n: dataset[n].infos[0] for n in order}

    assert infos(0, range(60)) == infos(0, reversed(range(60)))
    assert infos(0, range(60)) != infos(1, range(60))


def test_batches_join(tmp_path):
    folder = DataFolder(make_folder(tmp_path / "data", [8, 9]), PAPER)
    parts = [folder.window(clip, 3, chosen(4), PLAIN) for clip in (0, 1)]
    batch = Windows.joined(parts)
    assert batch.stream.shape == (2, 2, 9, 2, 3)
    assert torch.equal(batch.context[1:], parts[1].context)
    assert [info.clip for info in batch.infos] == ["clip0", "clip1"]
    silent = DataFolder(tmp_path / "data", PAPER, audio=False).window(0, 3, chosen(4), PLAIN)
    assert Windows.joined([silent, silent]).audio is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": (0.5, 0.6, 0.1)}, r"windows.start is 0.5, 0.6, 0.1;.*sum to 1"),
        ({"cross_prompt": -0.1}, r"windows.cross_prompt is -0.1"),
        ({"other_reference": float("nan")}, r"windows.other_reference is nan"),
        ({"drop_text": 0.9}, r"windows.drop_text \+ drop_audio \+ drop_both is 0.9, 0.1, 0.1"),
        ({"start_weight": 0.0}, r"windows.start_weight is 0.0"),
        ({"appearance": 1.5}, r"windows.appearance is 1.5"),
    ],
)
def test_config_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        WindowsConfig(**changes)


def test_folders_that_do_not_fit_are_refused(tmp_path):
    path = make_folder(tmp_path / "data", [5, 8])
    with pytest.raises(ValueError, match=r"clip0 has 61 frames and 16 latents.*preprocess"):
        DataFolder(path, OTHER)
    with pytest.raises(ValueError, match=r"clip0 has features \[15, 8\]; \[15, 9\] are wanted"):
        DataFolder(path, Geometry(window_left=3))
    with pytest.raises(ValueError, match=r"not latents-.*differ in vae"):
        DataFolder(path, PAPER, made_by={"latents": {"vae": "other"}})
    with pytest.raises(ValueError, match=r"windows.start has 3 numbers; give 4"):
        WindowDataset({path: 1.0}, OTHER, WindowsConfig())
    with pytest.raises(ValueError, match="give each a weight above 0"):
        WindowDataset({path: 0.0}, PAPER, WindowsConfig())
    write_manifest(path, [*read_manifest(path), Clip("new", "new.mp4", 25.0, 61)])
    with pytest.raises(ValueError, match="clip new has no latents; run scripts/preprocess"):
        DataFolder(path, PAPER)
    short = make_folder(tmp_path / "short", [2])
    with pytest.raises(ValueError, match=r"short: has no clip .* 4 chunks"):
        WindowDataset({short: 1.0}, PAPER, WindowsConfig(start=(0.0, 0.0, 0.5)))
