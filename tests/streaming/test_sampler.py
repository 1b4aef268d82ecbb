"""Laws of the tick, on two geometries."""

from dataclasses import replace

import pytest
import torch

from flowact.diffusion import flow
from flowact.diffusion.levels import Levels
from flowact.geometry import Geometry
from flowact.models.caches import StreamInputs
from flowact.rng import keyed_normal
from flowact.settings import StreamSettings, Update
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.state import Conditions

PAPER = Geometry()
OTHER = Geometry(chunk_latents=2, depth=4, long_term=2)
GEOMETRIES = pytest.mark.parametrize("geometry", [PAPER, OTHER], ids=["paper", "other"])

# Two orders of summation in float32, over a few layers, of values around 1.
REORDERED = 1e-5


class Stream:
    """A sampler on a tiny model, with audio and prompts drawn by key."""

    def __init__(
        self, make_transformer, make_text, geometry=PAPER, batch=1, model=None, **settings
    ):
        self.geometry = geometry
        self.model = model or make_transformer(reference_below=True)
        self.sampler = StreamSampler(self.model, geometry, StreamSettings(**settings))
        with torch.no_grad():
            self.texts = [
                self.model.encode_text(make_text(seed=seed, batch=batch)) for seed in range(3)
            ]
        reference = keyed_normal((batch, 4, 1, 4, 6), "reference")
        self.start = self.sampler.start(reference, tuple(range(batch)))

    def prompt(self, chunk):
        return self.texts[chunk % len(self.texts)]

    def audio(self, chunk):
        if chunk < 0 or self.model.config.audio_feature_dim is None:
            return None
        batch = len(self.start.seeds)
        window = (self.geometry.chunk_latents, self.geometry.latent_window, 6)
        return keyed_normal((batch, *window), "audio", chunk)

    def conditions(self, state, **changes):
        queue = [chunk.index for chunk in state.queue] + [state.tick]
        due = state.tick - self.sampler.settings.audio_lag
        told = Conditions(tuple(self.prompt(c) for c in queue), self.audio(due), self.texts[0])
        return replace(told, **changes)

    @torch.no_grad()
    def run(self, ticks, state=None):
        """Every tick of ``ticks`` from ``state``."""
        done = []
        state = state or self.start
        for _ in range(ticks):
            done.append(self.sampler.tick(state, self.conditions(state)))
            state = done[-1].state
        return done


@pytest.fixture
def make_stream(make_transformer, make_text):
    return lambda **changes: Stream(make_transformer, make_text, **changes)


@GEOMETRIES
def test_queue_contents_after_n_ticks(make_stream, geometry):
    """Ages {0}, {1, 0}, ... while the queue fills; then the oldest leaves at every tick."""
    ticks = make_stream(geometry=geometry).run(geometry.depth + 3)
    for n, tick in enumerate(ticks, 1):
        left = max(0, n - geometry.depth + 1)
        assert [chunk.index for chunk in tick.state.queue] == list(range(left, n))
        assert tick.state.tick == n
        if n < geometry.depth:
            assert tick.finished is None
        else:
            assert tick.finished.index == n - geometry.depth
            assert tick.finished.latents.shape == (1, 4, geometry.chunk_latents, 4, 6)


@GEOMETRIES
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_memory_after_n_ticks(make_stream, geometry, stride):
    """Short-term is the newest chunk's last latent; long-term, the former ones, oldest first."""
    ticks = make_stream(geometry=geometry, long_term_stride=stride).run(geometry.depth + 7)
    finished = [tick.finished for tick in ticks if tick.finished]
    last = [chunk.latents[:, :, -1:] for chunk in finished]
    image = ticks[0].state.memory.reference.latent
    for n, tick in enumerate(ticks[geometry.depth - 1 :], 1):
        memory = tick.state.memory
        former = [image, *last[: n - 1]]  # short-term before chunk c finished, for c = 0, 1, ...
        kept = [former[chunk] for chunk in range(n) if chunk % stride == 0][-geometry.long_term :]
        assert torch.equal(memory.short_term.latent, last[n - 1])
        assert len(memory.long_term) == len(kept)
        assert all(torch.equal(m.latent, k) for m, k in zip(memory.long_term, kept, strict=True))
        assert torch.equal(memory.reference.latent, image)


@GEOMETRIES
@pytest.mark.parametrize("update", list(Update))
@pytest.mark.parametrize("micro_steps", [1, 2])
def test_tick_by_tick_equals_unrolled(make_stream, geometry, update, micro_steps):
    """The whole stream again, written out on tensors with no state, queue or cache."""
    stream = make_stream(geometry=geometry, update=update, micro_steps=micro_steps, shift=3.0)
    ticks = geometry.depth + 2
    expected = unrolled(stream, ticks, update, micro_steps)
    finished = [tick.finished.latents for tick in stream.run(ticks) if tick.finished]
    assert len(finished) == len(expected) == ticks - geometry.depth + 1
    for mine, theirs in zip(finished, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=REORDERED, rtol=REORDERED)


@torch.no_grad()
def unrolled(stream, ticks, update, micro_steps):
    geometry, model, size = stream.geometry, stream.model, stream.geometry.chunk_latents
    levels = Levels(geometry.depth, micro_steps, 3.0)
    image = stream.start.memory.reference.latent
    noise = {c: keyed_normal((4, size, 4, 6), 0, "stream", c)[None] for c in range(ticks)}
    x, out = dict(noise), []
    short, long = image, []
    for n in range(ticks):
        queue = list(range(max(0, n - geometry.depth + 1), n + 1))
        latents = torch.cat([image, *long, short], dim=2)
        slots = torch.tensor([geometry.position(s) for s in geometry.slots(len(long))])
        context = model.place_context(model.encode_context(latents, slots), slots)
        positions = torch.tensor([geometry.position(s) for s in geometry.stream_slots(len(queue))])
        texts = [stream.prompt(c) for c in queue for _ in range(size)]
        audio = torch.cat([stream.audio(c) for c in queue], dim=1)
        for step in range(micro_steps):
            now = [levels.at(n - c, step) for c in queue]
            then = [levels.at(n - c, step + 1) for c in queue]
            level = torch.tensor([[s for s in now for _ in range(size)]])
            latents = torch.cat([x[c] for c in queue], dim=2)
            inputs = StreamInputs(
                latents, level, positions, texts, range(len(texts)), audio, reference=image
            )
            v = model.denoise(inputs, context).split(size, dim=2)
            for c, part, s, target in zip(queue, v, now, then, strict=True):
                if update is Update.euler:
                    x[c] = flow.euler(x[c], part, s, target)
                else:
                    clean = x[c] - s * part
                    x[c] = (1 - target) * clean + target * noise[c]
        if len(queue) == geometry.depth:
            out.append(x[queue[0]])
            long = [*long, short][-geometry.long_term :]
            short = out[-1][:, :, -1:]
    return out


def test_a_tick_changes_nothing_it_was_given(make_stream):
    stream = make_stream()
    state = stream.run(4)[-1].state
    before = [chunk.latents.clone() for chunk in state.queue]
    first = stream.run(2, state)[-1]
    second = stream.run(2, state)[-1]
    assert all(torch.equal(a, c.latents) for a, c in zip(before, state.queue, strict=True))
    assert torch.equal(first.finished.latents, second.finished.latents)


def test_seeds_of_a_batch_are_independent(make_stream):
    """A sample of a batch is that sample alone: the seed is its own, and nothing is shared."""
    batch = make_stream(batch=2)
    alone = make_stream(batch=2)
    alone.start = replace(alone.start, seeds=(0, 99))
    one, other = batch.run(3)[-1].finished, alone.run(3)[-1].finished
    assert torch.equal(one.latents[0], other.latents[0])
    assert not torch.equal(one.latents[1], other.latents[1])


def test_only_the_due_chunk_takes_the_audio(make_stream):
    """Under a lag of L, a chunk's audio is null until it is L ticks old."""
    for lag in (0, 1, 2):
        stream = make_stream(audio_lag=lag)
        for tick in stream.run(5):
            for chunk in tick.state.queue:
                age = tick.state.tick - 1 - chunk.index
                wanted = stream.audio(chunk.index)
                expected = wanted if age >= lag else torch.zeros_like(wanted)
                assert torch.equal(chunk.audio, expected)


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_audio_reaches_a_chunk_once_it_is_due(make_stream, lag):
    """Other audio for chunk 3 changes chunk 3, and no chunk that left before it was heard."""
    stream, changed = make_stream(audio_lag=lag), make_stream(audio_lag=lag)
    plain = changed.audio
    changed.audio = lambda chunk: (
        plain(chunk) + (1.0 if chunk == 3 else 0.0) if chunk >= 0 else None
    )
    for mine, other in zip(stream.run(6), changed.run(6), strict=True):
        if mine.finished is None:
            continue
        heard = mine.finished.index + PAPER.depth - 1 >= 3 + lag
        assert torch.equal(mine.finished.latents, other.finished.latents) is not heard


def test_prompts_are_read_again_every_tick(make_stream):
    stream = make_stream()
    state = stream.run(3)[-1].state
    changed = stream.conditions(state, texts=(stream.texts[0],) * 3)
    with torch.no_grad():
        tick = stream.sampler.tick(state, changed)
    assert all(chunk.text is stream.texts[0] for chunk in tick.state.queue)
    assert tick.state.memory.short_term.text is stream.texts[0]


@pytest.mark.parametrize("part", ["reference", "long_term", "short_term"])
def test_what_is_left_out_of_memory_is_not_seen(make_stream, part):
    """With all parts but one, what that one holds changes nothing, and it is kept all the same."""
    others = tuple({"reference", "long_term", "short_term"} - {part})
    stream, whole = make_stream(memory=others, refine_every=2), make_stream()
    state = whole.run(6)[-1].state
    memory = state.memory
    entry = replace(memory.short_term, latent=memory.short_term.latent + 1, cache=None)
    changed = {"reference": entry, "long_term": (entry,) * 3, "short_term": entry}
    other = replace(state, memory=replace(memory, **{part: changed[part]}))
    with torch.no_grad():
        for sampler, same in ((stream.sampler, True), (whole.sampler, False)):
            ticks = [sampler.tick(s, whole.conditions(s)) for s in (state, other)]
            left = [tick.finished.latents for tick in ticks]
            assert torch.equal(*left) is same
            if part != "short_term":  # the newest has taken its place
                assert len(ticks[0].state.memory.entries) == len(memory.entries)


def test_a_stream_goes_on_without_any_memory(make_stream):
    ticks = make_stream(memory=(), refine_every=1).run(5)
    assert all(torch.isfinite(tick.estimates).all() for tick in ticks)


def test_calls_are_counted(make_stream):
    stream = make_stream(micro_steps=2, guidance=3.0, refine_every=2)
    ticks = stream.run(6)
    assert [tick.calls for tick in ticks] == [4] * 6
    # Chunks 0 ... 3 leave; every second one's latent is repaired.
    assert [tick.refine_calls for tick in ticks] == [0, 0, 0, 4, 0, 4]


def test_guidance_is_uncond_plus_w_times_the_difference(make_stream):
    """The first tick is linear in w: one Euler step of one call."""
    one, three = make_stream(guidance=1.0), make_stream(guidance=3.0)
    null = make_stream(guidance=1.0)
    null.prompt = lambda chunk: null.texts[0]
    null.audio = lambda chunk: torch.zeros(1, 3, 8, 6)
    for stream in (one, three):
        stream.prompt = lambda chunk, texts=stream.texts: texts[1]
    cond, guided, uncond = (s.run(1)[0].state.queue[0].latents for s in (one, three, null))
    torch.testing.assert_close(guided, uncond + 3 * (cond - uncond), atol=REORDERED, rtol=REORDERED)
    assert not torch.allclose(guided, cond)


def test_guidance_without_the_empty_prompt_is_refused(make_stream):
    stream = make_stream(guidance=3.0)
    with pytest.raises(ValueError, match="null_text"):
        stream.sampler.tick(stream.start, stream.conditions(stream.start, null_text=None))


def test_every_chunk_needs_a_prompt(make_stream):
    stream = make_stream()
    with pytest.raises(ValueError, match="2 prompts for 1 chunks"):
        stream.sampler.tick(stream.start, Conditions((stream.texts[0],) * 2))


@pytest.mark.parametrize("context", ["self", "joint"])
def test_refinement_is_a_call_of_its_own(make_stream, make_transformer, context):
    """Noised to its level, denoised under reference and long-term memory, its prompt and audio."""
    model = make_transformer(context_attention=context)
    stream = make_stream(model=model, refine_every=2, refine_level=0.3, shift=3.0)
    plain = make_stream(model=model, shift=3.0)
    ticks, unrefined = stream.run(5), plain.run(5)
    for n in range(4):  # the emitted video is that without repairs up to the repair
        assert ticks[n].finished is None or torch.equal(
            ticks[n].finished.latents, unrefined[n].finished.latents
        )
    memory, before = ticks[3].state.memory, unrefined[3].state.memory
    chunk, geometry = ticks[3].finished, stream.geometry
    clean = chunk.latents[:, :, -1:]
    assert torch.equal(before.short_term.latent, clean)
    noise = keyed_normal((4, 1, 4, 6), 0, "refine", chunk.index)[None]
    *anchors, slot = (geometry.position(s) for s in geometry.slots(len(memory.long_term)))
    latents = torch.cat([m.latent for m in memory.anchors], dim=2)
    with torch.no_grad():
        context = model.encode_context(latents, torch.tensor(anchors))
        x = 0.7 * clean + 0.3 * noise
        inputs = StreamInputs(
            x,
            torch.tensor([[0.3]]),
            torch.tensor([slot]),
            [stream.prompt(chunk.index)],
            [0],
            stream.audio(chunk.index)[:, -1:],
            reference=memory.reference.latent,
        )
        v = model.denoise(inputs, model.place_context(context, torch.tensor(anchors)))
    torch.testing.assert_close(
        memory.short_term.latent, x - 0.3 * v, atol=REORDERED, rtol=REORDERED
    )
    assert not torch.allclose(memory.short_term.latent, clean, atol=1e-3)
    assert not torch.equal(ticks[4].finished.latents, unrefined[4].finished.latents)


def test_joint_context_is_encoded_as_one_set(make_stream, make_transformer):
    """Its outcome differs from separate latents, and survives a restart from any state."""
    joint = make_stream(model=make_transformer(context_attention="joint"))
    separate = make_stream(model=make_transformer(context_attention="self"))
    ticks = joint.run(5)
    assert not torch.allclose(ticks[4].finished.latents, separate.run(5)[4].finished.latents)
    again = joint.run(2, ticks[2].state)
    assert torch.equal(again[-1].finished.latents, ticks[4].finished.latents)


def test_context_is_encoded_once_in_its_life(make_stream):
    """A latent keeps its keys and values as it moves from short-term down the long-term queue."""
    ticks = make_stream().run(6)
    newest = ticks[3].state.memory.short_term
    assert newest.cache is None  # not paid for before a tick needs it
    later, latest = ticks[4].state.memory, ticks[5].state.memory
    assert later.long_term[-1].cache is latest.long_term[-2].cache is not None


def test_memory_keeps_no_more_than_its_latents(make_stream):
    """Keys and values of a latent do not hold on to the pass that they were made in."""
    memory = make_stream().run(6)[-1].state.memory
    for kv in memory.long_term[-1].cache.layers:
        for kept in kv:
            assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def test_adapterless_model_streams_without_audio(make_stream, make_transformer):
    stream = make_stream(model=make_transformer(audio_feature_dim=None))
    assert stream.run(3)[-1].finished.latents.isfinite().all()


def test_gradient_flows_through_a_tick(make_stream):
    """A training rollout is these ticks with gradients on: to weights, and to the noise it got."""
    stream = make_stream()
    state = stream.run(3)[-1].state
    latents = state.queue[0].latents.clone().requires_grad_()
    state = replace(state, queue=(replace(state.queue[0], latents=latents), *state.queue[1:]))
    tick = stream.sampler.tick(state, stream.conditions(state))
    tick.finished.latents.square().sum().backward()
    assert latents.grad.abs().sum() > 0
    assert stream.model.proj_out.weight.grad.abs().sum() > 0
