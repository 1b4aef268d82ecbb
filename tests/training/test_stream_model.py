"""Ticks in training are the stream's own, and differentiable."""

from dataclasses import replace

import pytest
import torch
from window_training import make_clips, make_network

from flowact.data.data_folder import DataFolder
from flowact.data.windows import Choice, WindowsConfig
from flowact.geometry import Geometry
from flowact.settings import StreamSettings, Update
from flowact.streaming.sampler import StreamSampler
from flowact.streaming.state import Conditions
from flowact.training.stream_model import RepairCall, StreamModel, Streams

PAPER = Geometry()
SETTINGS = StreamSettings(shift=2.0, text_scale=2.0, audio_scale=1.5)
# The stream keeps what memory leaves in the layers, training computes it again: two orders of
# summation in float32, over a few layers and ticks, of values around 1.
REORDERED = 2e-5


@pytest.fixture
def folder(tmp_path):
    return DataFolder(make_clips(tmp_path / "data", [9]), PAPER)


@pytest.fixture
def network(make_transformer):
    """As the demo's generator of DMD: it takes scales of guidance, and the reference below."""
    return StreamModel.of(
        make_network(make_transformer(guidance_embeds=True, reference_below=True))
    )


def make_streams(folder, oldest, chunks, **settings):
    choice = Choice(oldest, reference=0, drop_text=False, drop_audio=False)
    windows = folder.window(0, chunks, choice, WindowsConfig())
    return Streams(windows, PAPER, replace(SETTINGS, **settings), seeds=(7,))


def rolled(network, streams, queued, ticks):
    """What ``ticks`` ticks in training make, tick by tick."""
    state, made = streams.state(queued), []
    for _ in range(ticks):
        _, tick = network(streams.call(state))
        made.append(tick)
        state = tick.state
    return made


@torch.no_grad()
def streamed(network, streams, ticks, forgetting):
    """The same from the clip's start by the sampler alone, as a session runs it.

    ``forgetting``, it makes anew at each tick what it could keep, as training does: its prompts,
    and what memory leaves in the layers.
    """
    windows = streams.windows
    sampler = StreamSampler(network.transformer, PAPER, streams.settings)

    def encoded(prompts):
        return network.transformer.encode_text(network.text_encoder.encode(prompts))

    kept = {p: encoded([p]) for info in windows.infos for p in info.captions}
    # In these clips, unlike in others, the image is not the reference.
    state, made = streams.state(0), []
    for n in range(ticks):
        told = [windows.infos[0].captions[i] for i in (*(c.index for c in state.queue), n)]
        texts = kept
        if forgetting:
            distinct = list(dict.fromkeys(told))
            anew = encoded(distinct)
            texts = {p: anew.of(torch.tensor([at])) for at, p in enumerate(distinct)}
            memory = state.memory
            entries = [replace(entry, cache=None) for entry in memory.entries]
            state = replace(state, memory=memory.with_entries(dict(enumerate(entries))))
        due = n - streams.settings.audio_lag
        audio = windows.audio[:, 3 * due : 3 * due + 3].float() if due >= 0 else None
        made.append(sampler.tick(state, Conditions(tuple(texts[p] for p in told), audio)))
        state = made[-1].state
    return made


@pytest.mark.parametrize("forgetting", [False, True])
@pytest.mark.parametrize("refine_every", [0, 1])
@pytest.mark.parametrize("update", list(Update))
@pytest.mark.parametrize("audio_lag", [0, 2])
@torch.no_grad()
def test_a_rollout_is_a_stream(network, folder, update, audio_lag, refine_every, forgetting):
    """Same weights, scales, noise and conditions: the same latents, from ramp-up to long after it,
    bit for bit where the stream too keeps nothing that it could make again."""
    streams = make_streams(
        folder, 0, 7, update=update, audio_lag=audio_lag, refine_every=refine_every
    )
    mine, theirs = rolled(network, streams, 0, 7), streamed(network, streams, 7, forgetting)
    rounding = 0 if forgetting else REORDERED
    assert [tick.refine_calls for tick in mine] == [tick.refine_calls for tick in theirs]
    for one, other in zip(mine, theirs, strict=True):
        pairs = [(one.estimates, other.estimates)]
        pairs += [
            (chunk.latents, twin.latents)
            for chunk, twin in zip(one.state.queue, other.state.queue, strict=True)
        ]
        pairs += [
            (entry.latent, twin.latent)
            for entry, twin in zip(
                one.state.memory.entries, other.state.memory.entries, strict=True
            )
        ]
        for ours, its in pairs:
            torch.testing.assert_close(ours, its, atol=rounding, rtol=rounding)


@torch.no_grad()
def test_a_rollout_is_told_its_scales(network, folder):
    """They are an input; without one the test above would hold for nothing."""
    streams = make_streams(folder, 0, 3)
    other = make_streams(folder, 0, 3, audio_scale=3.0)
    one, two = (rolled(network, told, 0, 1)[0].estimates for told in (streams, other))
    assert not torch.allclose(one, two, atol=1e-3)


@torch.no_grad()
def test_a_stream_begins_in_a_clip(network, folder):
    """Memory is the clip's, and the queue its next chunks at the levels of their ages."""
    streams = make_streams(folder, 4, 5)
    state = streams.state(queued=2)
    windows = streams.windows
    assert state.tick == 6
    assert torch.equal(state.memory.short_term.latent, windows.short_term.float())
    assert len(state.memory.long_term) == 3
    for place, level in enumerate((shifted(1 / 3), shifted(2 / 3))):
        chunk = state.queue[place]
        clean = windows.stream[:, :, 3 * place : 3 * place + 3].float()
        assert chunk.index == 4 + place
        expected = (1 - level) * clean + level * chunk.noise
        torch.testing.assert_close(chunk.latents, expected, atol=1e-6, rtol=0)  # rounding
        assert torch.equal(chunk.audio, windows.audio[:, 3 * place : 3 * place + 3])
    for n, tick in enumerate(rolled(network, streams, 2, 3)):
        assert tick.finished.index == 4 + n


def shifted(u):
    return 2 * u / (1 + u)


@torch.no_grad()
def test_prompts_and_audio_are_those_of_the_chunks(folder):
    streams = make_streams(folder, 4, 5, audio_lag=1)
    state = streams.state(queued=2)
    assert [chunk.audio.abs().sum() > 0 for chunk in state.queue] == [True, False]
    call = streams.call(state)
    assert call.prompts == (streams.windows.infos[0].captions[:3],)
    assert torch.equal(call.audio, streams.windows.audio[:, 3:6])  # of chunk 5, one tick old
    buffer = streams.buffer(call, streams.truth(call), reference_alone=False)
    assert torch.equal(streams.truth(call), streams.windows.stream[:, :, :9].float())
    assert torch.equal(buffer.audio[:, :6], streams.windows.audio[:, :6])
    assert not buffer.audio[:, 6:].any()
    assert buffer.context_slots == (-12, -9, -6, -3, 0)
    assert torch.equal(buffer.context, streams.windows.context.float())
    alone = streams.buffer(call, streams.truth(call), reference_alone=True)
    assert alone.context_slots == (-12,)


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_pass_a_tick_after_ticks_without(network, folder, autocast):
    """Autocast keeps weights that it cast without gradients, and would cut them off."""
    streams = make_streams(folder, 0, 5)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        state = streams.roll(network, streams.state(0), 3)
        estimates, _ = network(streams.call(state))
        loss = estimates.float().square().mean()
    loss.backward()
    missing = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(not chunk.latents.requires_grad for chunk in state.queue)


@torch.no_grad()
def test_a_repair_is_the_streams(network, folder):
    """Of the latent that a tick has just remembered: same noise, prompt, audio and context."""
    streams = make_streams(folder, 0, 6, refine_every=1, refine_level=0.4)
    plain = replace(streams, settings=replace(streams.settings, refine_every=0))
    state = plain.roll(network, plain.state(0), 4)
    _, repaired = network(streams.call(state))
    _, tick = network(plain.call(state))
    memory, index = tick.state.memory, tick.finished.index
    call = RepairCall(
        tick.state,
        (streams.windows.infos[0].captions[index],),
        streams.windows.audio[:, 3 * index + 2 : 3 * index + 3].float(),
        streams.settings,
    )
    expected = repaired.state.memory.short_term.latent
    torch.testing.assert_close(network(call), expected, atol=REORDERED, rtol=REORDERED)
    assert not torch.allclose(expected, memory.short_term.latent, atol=1e-2)


def test_the_clips_own_latent_is_repaired(network, folder):
    """Of the chunk before the window, and with gradients."""
    streams = make_streams(folder, 4, 5, refine_level=0.1)
    call = streams.repair()
    assert call.state.tick - PAPER.depth == 3
    assert call.prompts == (streams.windows.infos[0].memory_caption,)
    assert torch.equal(call.audio, streams.windows.memory_audio)
    repaired = network(call)
    truth = streams.windows.short_term.float()
    assert repaired.shape == truth.shape
    repaired.square().mean().backward()
    assert network.transformer.proj_out.weight.grad.abs().sum() > 0


def test_without_guidance_passes_there_is_no_null_prompt(make_transformer, folder):
    """A guided teacher makes two passes in its ticks, as in a stream."""
    network = StreamModel.of(make_network(make_transformer()))
    untold = {"text_scale": None, "audio_scale": None}
    streams = make_streams(folder, 0, 3, **untold)
    guided = make_streams(folder, 0, 3, guidance=3.0, **untold)
    with torch.no_grad():
        one, _ = network(streams.call(streams.state(0)))
        three, tick = network(guided.call(guided.state(0)))
    assert tick.calls == 2
    assert not torch.allclose(one, three)
