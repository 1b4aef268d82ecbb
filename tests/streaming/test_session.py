"""A session from samples to frames: ends, pauses, snapshots, and the engine around it."""

import random
import threading
import time
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from tiny import tiny_config

from flowact.geometry import Geometry
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.settings import StreamSettings
from flowact.streaming.engine import Engine
from flowact.streaming.prompts import Prompt, PromptSchedule
from flowact.streaming.sampler import StreamSampler


@pytest.fixture
def wave():
    return 0.1 * keyed_normal((4 * 7680,), "wave")


@pytest.fixture
def start(tiny_pipeline, picture):
    """A new session on the tiny pipeline."""

    def make(prompt="She waves.", seeds=(0,), **changes):
        own = replace(tiny_pipeline.config.stream, **changes)
        return tiny_pipeline.session(picture, prompt, seeds=seeds, stream=own)

    return make


def frames_of(session, wave, cut=None):
    """Frames of the whole audio, pushed in pieces of ``cut`` samples."""
    pieces = [wave] if cut is None else list(wave.split(cut))
    out = []
    for piece in pieces:
        session.push(piece)
        out += list(session.run())
    session.end()
    return torch.cat(out + list(session.run()), dim=1)


@pytest.mark.parametrize("samples", [0, 1, 640, 641, 7680, 7681, 20_000])
def test_the_video_lasts_as_long_as_the_audio(start, wave, samples):
    frames = frames_of(start(), wave[:samples])
    assert frames.shape[1] == max(1, -(-samples // 640))


@pytest.mark.parametrize("chunks", [1, 3])
def test_the_second_geometry_streams_by_the_same_laws(picture, wave, chunks):
    """Chunks of 8 frames, 4 at once: n + 3 ticks, whatever the pieces the audio comes in."""
    config = tiny_config()
    config.geometry = replace(config.geometry, chunk_latents=2, depth=4, long_term=2)
    pipeline = FlowActPipeline.untrained(config)
    samples = chunks * config.geometry.chunk_samples - 100
    engine = Engine(pipeline.session(picture), threads=torch.get_num_threads())
    frames = torch.cat(list(engine.run([wave[:samples]])), dim=1)
    assert engine.timing.calls == chunks + 3
    assert frames.shape[1] == chunks * 8
    assert torch.equal(frames, frames_of(pipeline.session(picture), wave[:samples], cut=3000))


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_n_chunks_take_n_plus_2_ticks(start, wave, chunks):
    session, ticks = start(), 0
    session.push(wave[: chunks * 7680])
    session.end()
    while not session.done:
        session.tick(session.conditions())
        ticks += 1
    assert ticks == chunks + 2
    assert len(list(session.run())) == chunks


@pytest.mark.parametrize("cut", [1000, 7680, 12_345])
def test_frames_do_not_depend_on_how_the_audio_was_cut(start, wave, cut):
    assert torch.equal(frames_of(start(), wave), frames_of(start(), wave, cut))


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_a_tick_waits_for_its_audio(start, wave, lag):
    """Chunk c is due at tick c + lag, once 160 ms past its end have come, or the end."""
    session = start(audio_lag=lag)
    for due in range(2):
        session.push(wave[: 7680 + 2559] if due == 0 else wave[:7679])
        ticks = 0
        while session.ready:
            session.tick(session.conditions())
            ticks += 1
        assert ticks == (lag if due == 0 else 0)
        session.push(wave[:1])
        assert session.ready
        session.tick(session.conditions())
        assert not session.ready
    session.end()
    assert session.ready


def test_silence_is_not_null_audio(start):
    """Audio that has ended goes on as silence, whose features are not zero."""
    session = start()
    session.push(torch.zeros(100))
    session.end()
    session.tick(session.conditions())
    session.tick(session.conditions())
    second = session.snapshot().stream.queue[-1]
    assert second.index == 1
    assert second.audio.abs().sum() > 0


def test_a_chunk_uses_its_own_prompt(start, wave, tiny_pipeline):
    geometry = tiny_pipeline.config.geometry
    two = PromptSchedule((Prompt(0.0, "She waves."), Prompt(0.5, "She nods.")), geometry)
    plain, changed = frames_of(start(), wave), frames_of(start(two), wave)
    constant = frames_of(start("She nods."), wave)
    assert not torch.equal(plain, changed)
    assert not torch.equal(constant, changed)


def test_a_snapshot_replays_bit_for_bit(start, wave):
    session = start(refine_every=2)
    session.push(wave[:20_000])
    list(session.run())
    session.push(wave[20_000:])
    while session.ready and not session.snapshot().waiting:
        session.tick(session.conditions())  # leaves a chunk that is finished and not decoded
    snapshot = session.snapshot()
    assert len(snapshot.waiting) == 1
    session.end()
    rest = torch.cat(list(session.run()), dim=1)
    session.restore(snapshot)
    session.end()
    assert torch.equal(rest, torch.cat(list(session.run()), dim=1))
    other = start(refine_every=2, seeds=(5,))
    other.restore(snapshot)
    other.end()
    assert torch.equal(rest, torch.cat(list(other.run()), dim=1))


def test_two_sessions_share_nothing_that_changes(start, wave):
    alone = frames_of(start(), wave)
    one, other = start(), start("She nods.", seeds=(9,))
    out = []
    for piece in wave.split(5000):
        one.push(piece)
        other.push(-piece)
        out += list(one.run())
        list(other.run())
    one.end()
    assert torch.equal(alone, torch.cat(out + list(one.run()), dim=1))


def test_a_session_keeps_no_more_as_it_goes(start):
    """Every tensor that a snapshot reaches, after 8 chunks and after 16."""
    session, sizes = start(refine_every=3), []
    for _ in range(2):
        for _ in range(8):
            session.push(keyed_normal((7680,), "piece"))
            list(session.run())
        sizes.append(held(session.snapshot()))
    assert sizes[0] == sizes[1] > 0


def held(value, seen=None):
    """Bytes of all storages under ``value``, each counted once."""
    seen = {} if seen is None else seen
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    elif is_dataclass(value):
        for f in fields(value):
            held(getattr(value, f.name), seen)
    elif isinstance(value, tuple):
        for item in value:
            held(item, seen)
    return sum(seen.values())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"audio_lag": 2}, "audio_lag is 2; a chunk leaves after 2 ticks"),
        ({"text_scale": 2.0, "audio_scale": 1.0}, "guidance_embeds"),
    ],
)
def test_settings_that_fit_neither_geometry_nor_model(make_transformer, settings, named):
    geometry = Geometry(depth=2)
    with pytest.raises(ValueError, match=named):
        StreamSampler(make_transformer(), geometry, StreamSettings(**settings))


def test_text_of_a_stream_is_clean(make_transformer):
    with pytest.raises(ValueError, match="text_level"):
        StreamSampler(make_transformer(text_level="same"), Geometry(), StreamSettings())


def test_a_batch_is_its_samples(start, wave):
    both = frames_of(start(seeds=(3, 4)), wave)
    assert both.shape[0] == 2
    # In a batch, sums may be taken in another order: at most one step of 255 off.
    one = frames_of(start(seeds=(4,)), wave)
    assert (both[1].int() - one[0].int()).abs().max() <= 1


class TestEngine:
    def test_frames_are_the_sessions(self, start, wave):
        # Sums are rounded by how many threads share them: as many here as in the session.
        engine = Engine(start(), threads=torch.get_num_threads())
        chunks = list(engine.run(wave.split(3000)))
        assert torch.equal(torch.cat(chunks, dim=1), frames_of(start(), wave))

    def test_denoising_and_decoding_overlap(self, start, wave):
        """While the decoder is held, the denoiser goes on until the queue is full, and no more."""
        session, gate = start(), threading.Event()
        decode, decoding = session.decode, threading.Event()

        def held():
            decoding.set()
            assert gate.wait(timeout=20)
            return decode()

        session.decode = held
        engine = Engine(session, capacity=1)
        run = engine.run(keyed_normal((7680 * 12,), "long").split(7680))
        taker = threading.Thread(target=lambda: list(run))
        taker.start()
        assert decoding.wait(timeout=20)
        settled, ticks = -1, 0
        while settled != ticks:
            settled = ticks
            threading.Event().wait(0.3)
            ticks = len(engine.timing.tick_s)
        # Two ticks fill the stream; then one chunk is being decoded, one waits, one is held back.
        assert ticks == 2 + 3
        gate.set()
        taker.join(timeout=60)
        assert not taker.is_alive()
        assert len(engine.timing.emitted) == 12

    def test_frames_do_not_depend_on_how_fast_a_stage_is(self, start, wave):
        """Stages that dawdle at random give the same frames."""
        session, dawdle = start(), random.Random(0)
        for name in ("tick", "decode"):
            stage = getattr(session, name)

            def slowly(*inputs, _stage=stage):
                time.sleep(dawdle.uniform(0, 0.03))
                return _stage(*inputs)

            setattr(session, name, slowly)
        engine = Engine(session, capacity=1, threads=torch.get_num_threads())
        chunks = list(engine.run(wave.split(3000)))
        assert torch.equal(torch.cat(chunks, dim=1), frames_of(start(), wave))

    def test_it_can_be_left_and_run_again(self, start, wave):
        """What was in flight is lost; the session goes on where it is."""
        engine = Engine(start())
        run = engine.run(keyed_normal((7680 * 20,), "long").split(7680))
        next(run)
        run.close()
        assert len(list(engine.run(iter(())))) > 0

    def test_a_source_that_never_answers_is_left_behind(self, start, monkeypatch):
        monkeypatch.setattr("flowact.streaming.engine.PATIENCE", 0.2)
        answer = threading.Event()

        def silent():
            yield keyed_normal((7680 * 4,), "start")
            answer.wait(timeout=30)

        run = Engine(start()).run(silent())
        next(run)
        begun = time.monotonic()
        run.close()
        assert time.monotonic() - begun < 10
        answer.set()

    def test_timing_counts_calls_apart(self, start, wave):
        engine = Engine(start(refine_every=2))
        list(engine.run([wave]))
        timing = engine.timing
        assert (timing.calls, timing.ramp_calls, timing.refine_calls) == (6, 2, 2)
        assert len(timing.tick_s) == 6
        assert len(timing.emitted) == 4

    def test_the_first_error_wins_and_all_threads_end(self, start, wave):
        def broken():
            yield wave[:20_000]
            raise ValueError("the microphone was unplugged")

        before = threading.active_count()
        with pytest.raises(ValueError, match="unplugged"):
            list(Engine(start()).run(broken()))
        assert threading.active_count() == before

    def test_an_error_of_the_decoder_reaches_the_caller(self, start, wave):
        session = start()

        def fail():
            raise ValueError("no decoder")

        session.decode = fail
        with pytest.raises(ValueError, match="no decoder"):
            list(Engine(session).run([wave]))

    def test_closing_early_ends_all_threads(self, start):
        before = threading.active_count()
        run = Engine(start()).run(keyed_normal((7680 * 50,), "long").split(7680))
        next(run)
        run.close()
        assert threading.active_count() == before

    def test_no_queue_grows(self, start):
        """A source of any length is read no faster than the frames are taken."""
        read = []

        def source():
            for second in range(60):
                read.append(second)
                yield torch.zeros(7680)

        run = Engine(start(), capacity=1).run(source())
        next(run)
        threading.Event().wait(0.5)
        # 3 chunks in the stream with 2 blocks to hear them whole, 2 queues of 1, 2 in hand, 1 out.
        assert len(read) <= 10
        run.close()
