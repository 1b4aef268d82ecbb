"""Training asks the model what the stream asks it."""

from dataclasses import replace

import pytest
import torch
from models.backbone_checks import assert_close
from window_training import make_clips, make_network

from flowact.data.data_folder import DataFolder, Windows
from flowact.data.store import CacheWriter, caption_id
from flowact.data.windows import Choice, WindowsConfig
from flowact.diffusion import flow
from flowact.geometry import Geometry
from flowact.rng import keyed_normal
from flowact.settings import StreamSettings
from flowact.streaming.memory import Memory, MemoryLatent
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.state import Conditions, QueuedChunk, StreamState
from flowact.training.cached_text import CachedText
from flowact.training.objectives.audio_motion import heard_late
from flowact.training.tasks import Task, clean_buffer
from flowact.training.window_model import WindowModel

PAPER = Geometry()
OTHER = Geometry(chunk_latents=2, depth=4, long_term=2)
GEOMETRIES = pytest.mark.parametrize("geometry", [PAPER, OTHER], ids=["paper", "other"])
SEEDS = (0, 1)

# Prompts of one length or padded to it, and a velocity found from a difference of latents:
# float32 in another order, over two layers, of values around 1.
REORDERED = 1e-4


class Scene:
    """Two clips, a network, and the stream as it would be in the midst of them."""

    def __init__(self, transformer, folder, geometry, chunks, oldest, lag=0, **stream):
        self.geometry = geometry
        self.network = make_network(transformer, geometry)
        self.sampler = StreamSampler(
            transformer, geometry, StreamSettings(shift=2.0, audio_lag=lag, **stream)
        )
        data = DataFolder(folder, geometry)
        choice = Choice(oldest, 0, drop_text=False, drop_audio=False)
        self.windows = Windows.joined(
            [data.window(clip, chunks, choice, WindowsConfig()) for clip in range(2)]
        )
        self.oldest, self.chunks, self.lag = oldest, chunks, lag

    def text(self, captions):
        encoder, transformer = self.network.text_encoder, self.network.transformer
        return transformer.encode_text(encoder.encode(captions))

    def state(self, buffer):
        """Before the tick that makes the newest chunk of ``buffer``."""
        memory = [MemoryLatent(x) for x in self.windows.context.float().split(1, dim=2)]
        reference, *long_term, short_term = memory
        audio = self.windows.audio.float().split(self.geometry.chunk_latents, dim=1)
        latents = buffer.latents.split(self.geometry.chunk_latents, dim=2)
        ages = range(self.chunks - 1, 0, -1)
        queue = tuple(
            QueuedChunk(
                self.oldest + place,
                latents[place],
                latents[place],
                None,
                audio[place] if age > self.lag else torch.zeros_like(audio[place]),
            )
            for place, age in enumerate(ages)
        )
        tick = self.oldest + self.chunks - 1
        return StreamState(Memory(reference, tuple(long_term), short_term), queue, tick, SEEDS)

    def tick(self, buffer):
        captions = zip(*(info.captions for info in self.windows.infos), strict=True)
        texts = tuple(self.text(chunk) for chunk in captions)
        audio = self.windows.audio.float().split(self.geometry.chunk_latents, dim=1)
        due = self.chunks - 1 - self.lag
        conditions = Conditions(texts, audio[due] if due >= 0 else None)
        return self.sampler.tick(self.state(buffer), conditions)


@GEOMETRIES
@pytest.mark.parametrize("lag", [0, 1])
@torch.no_grad()
def test_training_asks_what_a_tick_asks(make_transformer, tmp_path, geometry, lag):
    transformer = make_transformer(layer_pattern=("full", "temporal"))
    folder = make_clips(tmp_path / "data", [12, 12], geometry)
    for chunks, oldest in [(1, 0), (2, 0), (geometry.depth, 1), (geometry.depth, 5)]:
        scene = Scene(transformer, folder, geometry, chunks, oldest, lag)
        levels = [scene.sampler.levels.at(age) for age in range(chunks - 1, -1, -1)]
        level = torch.tensor(levels).repeat_interleave(geometry.chunk_latents).expand(2, -1)
        windows = heard_late(scene.windows, torch.tensor([lag, lag]), geometry)
        clean = clean_buffer(windows, Task.STREAM, geometry)
        noise = keyed_normal(tuple(clean.latents.shape), "noise")
        shape = (noise.shape[1], geometry.chunk_latents, *noise.shape[3:])
        newest = oldest + chunks - 1
        noise[:, :, -geometry.chunk_latents :] = torch.stack(
            [keyed_normal(shape, seed, "stream", newest) for seed in SEEDS]
        )
        buffer = clean.noised(noise, level)
        velocity = scene.network(buffer)

        tick = scene.tick(buffer)
        moved = [chunk.latents for chunk in tick.state.queue]
        if tick.finished is not None:
            moved.insert(0, tick.finished.latents)
        step = [
            scene.sampler.levels.at(age, 1) - scene.sampler.levels.at(age, 0)
            for age in range(chunks - 1, -1, -1)
        ]
        steps = torch.tensor(step).repeat_interleave(geometry.chunk_latents).expand(2, -1)
        expected = (torch.cat(moved, dim=2) - buffer.latents) / flow.expand(steps)
        assert_close(velocity, expected, REORDERED)


@torch.no_grad()
def test_refinement_asks_what_the_stream_asks(make_transformer, tmp_path):
    """The chunk that a tick finishes is taken for the clip's, as memory of its next window."""
    level = 0.4
    folder = make_clips(tmp_path / "data", [12, 12])
    scene = Scene(make_transformer(), folder, PAPER, 3, 4, refine_every=1, refine_level=level)
    buffer = clean_buffer(scene.windows, Task.STREAM, PAPER)
    tick = scene.tick(buffer)
    memory = tick.state.memory
    finished = tick.finished.latents[:, :, -1:]
    infos = tuple(replace(i, memory_caption=i.captions[0]) for i in scene.windows.infos)
    after = replace(
        scene.windows,
        context=torch.cat([*(entry.latent for entry in memory.anchors), finished], dim=2),
        short_term=finished,
        memory_audio=scene.windows.audio[:, PAPER.chunk_latents - 1 : PAPER.chunk_latents],
        infos=infos,
    )
    shape = (4, 1, *finished.shape[3:])
    noise = torch.stack([keyed_normal(shape, seed, "refine", 4) for seed in SEEDS])
    noisy = clean_buffer(after, Task.REFINEMENT, PAPER).noised(noise, torch.full((2, 1), level))
    expected = (noisy.latents - memory.short_term.latent) / level
    assert_close(scene.network(noisy), expected, REORDERED)


def window(folder, clips, chunks=3, oldest=4):
    data = DataFolder(folder, PAPER)
    choice = Choice(oldest, 0, drop_text=False, drop_audio=False)
    parts = [data.window(clip, chunks, choice, WindowsConfig()) for clip in clips]
    return Windows.joined(parts)


@torch.no_grad()
def test_a_sample_does_not_see_the_others(make_transformer, tmp_path):
    """Captions of other lengths are padding, which changes nothing."""
    network = make_network(make_transformer())
    folder = make_clips(tmp_path / "data", [9, 9, 9], seconds=0.4)
    noise, levels = keyed_normal((3, 4, 9, 4, 6), "n"), keyed_normal((3, 9), "l").sigmoid()
    together = clean_buffer(window(folder, range(3)), Task.STREAM, PAPER).noised(noise, levels)
    for clip in range(3):
        of = slice(clip, clip + 1)
        alone = clean_buffer(window(folder, [clip]), Task.STREAM, PAPER).noised(
            noise[of], levels[of]
        )
        assert_close(network(together)[of], network(alone), REORDERED)


@pytest.mark.parametrize("task", list(Task))
def test_tasks_take_their_latents_and_context(tmp_path, task):
    windows = window(make_clips(tmp_path / "data", [9, 9]), (0, 1))
    buffer = clean_buffer(windows, task, PAPER)
    context = windows.context.float()
    slots = {
        Task.STREAM: (-12, -9, -6, -3, 0),
        Task.WITHOUT_LONG_TERM: (-12, 0),
        Task.REFERENCE_ALONE: (-12,),
        Task.REFINEMENT: (-12, -9, -6, -3),
    }[task]
    kept = [(-12, -9, -6, -3, 0).index(slot) for slot in slots]
    assert buffer.context_slots == slots
    assert torch.equal(buffer.context, context[:, :, kept])
    if task is Task.REFINEMENT:
        assert buffer.slots == (0,)
        assert torch.equal(buffer.latents, context[:, :, -1:])
        assert torch.equal(buffer.audio, windows.memory_audio)
        assert buffer.captions == tuple((info.memory_caption,) for info in windows.infos)
    else:
        assert buffer.slots == tuple(range(1, 10))
        assert torch.equal(buffer.latents, windows.stream.float())
        assert torch.equal(buffer.audio, windows.audio)
        assert [c[::3] for c in buffer.captions] == [info.captions for info in windows.infos]


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize(
    "pattern", [("full",), ("full", "temporal"), ("temporal", "spatial")], ids="-".join
)
def test_every_trained_weight_has_a_gradient(make_transformer, tmp_path, task, pattern):
    """DDP would wait for one that has none."""
    network = make_network(make_transformer(layer_pattern=pattern))
    buffer = clean_buffer(window(make_clips(tmp_path / "data", [9]), [0]), task, PAPER)
    levels = torch.full(buffer.levels.shape, 0.5)
    network(buffer.noised(torch.zeros_like(buffer.latents), levels)).square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    frozen = [n for n, p in network.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(p.grad is None for p in network.parameters() if not p.requires_grad)


def test_frozen_weights_change_no_velocity(make_transformer, tmp_path):
    network = make_network(make_transformer())
    buffer = clean_buffer(window(make_clips(tmp_path / "data", [9]), [0]), Task.STREAM, PAPER)
    buffer = buffer.noised(keyed_normal(tuple(buffer.latents.shape), "n"), buffer.levels + 0.5)
    with torch.no_grad():
        before = network(buffer)
        for parameter in network.parameters():
            if not parameter.requires_grad:
                parameter.add_(1.0)
        assert torch.equal(network(buffer), before)


def test_checkpointed_layers_have_the_same_gradients(make_transformer, tmp_path):
    network = make_network(make_transformer())
    buffer = clean_buffer(window(make_clips(tmp_path / "data", [9]), [0]), Task.STREAM, PAPER)
    buffer = buffer.noised(keyed_normal(tuple(buffer.latents.shape), "n"), buffer.levels + 0.5)
    found = []
    for wanted in (False, True):
        network.checkpoint_layers(wanted)
        assert network.transformer.is_gradient_checkpointing is wanted
        network.zero_grad()
        network(buffer).square().mean().backward()
        found.append([p.grad.clone() for p in network.parameters() if p.requires_grad])
    # The same operations are done again: nothing is rounded otherwise.
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@torch.no_grad()
def test_cached_embeddings_do_for_their_encoder(make_transformer, tmp_path):
    transformer = make_transformer(text_embed_2_dim=5)
    trained = make_network(transformer)
    windows = window(make_clips(tmp_path / "data", [9, 9], seconds=0.4), (0, 1))
    captions = {caption for info in windows.infos for caption in info.captions}
    cache = CacheWriter(tmp_path / "data", "text", {"encoder": "told"})
    for caption in captions:
        inputs = trained.text_encoder.encode([caption])
        second = {"embeds_2": torch.zeros(0, 5), "mask_2": torch.zeros(0, dtype=torch.bool)}
        own = {"embeds": inputs.embeds[0], "mask": inputs.mask[0]}
        cache.add(caption_id(caption), own | second)
    cache.close()
    text = CachedText([tmp_path / "data"], {"encoder": "told"})
    buffer = clean_buffer(windows, Task.STREAM, PAPER)
    buffer = buffer.noised(keyed_normal(tuple(buffer.latents.shape), "n"), buffer.levels + 0.5)
    cached = WindowModel(transformer, text, PAPER)
    assert_close(cached(buffer), trained(buffer), REORDERED)
    assert not [name for name in cached.state_dict() if name.startswith("text_encoder")]
    with pytest.raises(ValueError, match=r"the caption 'new' is in no text cache of .*preprocess"):
        text.encode(["new"])
    with pytest.raises(ValueError, match="differ in encoder"):
        CachedText([tmp_path / "data"], {"encoder": "other"})
