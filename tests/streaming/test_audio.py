"""The laws of the audio extractor: one definition, whatever way the audio arrives."""

from dataclasses import fields, replace

import pytest
import torch
from whisper.model import AudioEncoder as WhisperAudioEncoder

from flowact.geometry import Geometry
from flowact.models.audio_encoder import AudioEncoder, MelEncoder, WhisperEncoder
from flowact.streaming.audio import AudioExtractor, AudioState

GEOMETRIES = [Geometry(), Geometry(chunk_latents=2, depth=4, long_term=2)]
GEOMETRY = GEOMETRIES[0]
FRAME, CHUNK = GEOMETRY.frame_samples, GEOMETRY.chunk_samples


class FrameMean:
    """Closed form: the feature of a frame is the mean of its samples."""

    feature_dim = 1
    sample_rate = GEOMETRY.sample_rate
    frame_samples = FRAME

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        return wave.unflatten(-1, (-1, FRAME)).mean(-1, keepdim=True)


def whisper_encoder() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(WhisperAudioEncoder(80, 1500, 16, 2, 4))


ENCODERS = pytest.mark.parametrize("make_encoder", [MelEncoder, whisper_encoder])


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> torch.Tensor:
    """Noise in syllables, four a second."""
    samples = round(seconds * GEOMETRY.sample_rate)
    generator = torch.Generator().manual_seed(seed)
    syllables = torch.sin(torch.arange(samples) * (4 * torch.pi / GEOMETRY.sample_rate)).square()
    return level * syllables * torch.randn(samples, generator=generator)


def stream(
    extractor: AudioExtractor, wave: torch.Tensor, sizes: list[int], n_chunks: int
) -> tuple[torch.Tensor, AudioState]:
    """Push pieces of the given sizes in turn, extracting each chunk as soon as it is ready."""
    state, features = extractor.start(), []
    for i, piece in enumerate(torch.split(wave, sizes)):
        state = state.push(piece)
        if i == len(sizes) - 1:
            state = state.end()
        while len(features) < n_chunks and extractor.ready(state, len(features)):
            chunk, state = extractor.extract(state, len(features))
            features.append(chunk)
    return torch.cat(features, dim=1), state


def all_tensors(state: AudioState) -> list[torch.Tensor]:
    return [state.ring, *state.pending, state.loudness.counts, state.loudness.powers]


@ENCODERS
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_features_do_not_depend_on_how_the_audio_was_cut(make_encoder, geometry):
    extractor = AudioExtractor(make_encoder(), geometry)
    wave = noise(1.93)
    n_chunks = geometry.chunks(geometry.frames(len(wave)))
    expected = extractor.features_of(wave, n_chunks)
    assert expected.shape == (
        *(1, n_chunks * geometry.chunk_latents, geometry.latent_window),
        extractor.encoder.feature_dim,
    )
    ragged = [1, 639, 641, 0, 7_000, 1_280, 3, 10_000]
    for sizes in ([len(wave)], [1] * len(wave), [*ragged, len(wave) - sum(ragged)]):
        features, state = stream(extractor, wave, sizes, n_chunks)
        assert torch.equal(features, expected)
        assert state.received == len(wave)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_latent_j_has_features_4j_minus_2_to_4j_plus_5(geometry):
    extractor = AudioExtractor(FrameMean(), geometry)
    # Frame k holds the value (k + 1) * 1e-6: a slow ramp, below the loudness gate, so at gain 1.
    n_frames = 300
    wave = 1e-6 * (1 + torch.arange(n_frames)).repeat_interleave(FRAME).float()
    n_latents = 26 * geometry.chunk_latents
    windows = extractor.features_of(wave, 26)[0, :, :, 0]
    index = 4 * torch.arange(n_latents)[:, None] + torch.arange(-2, 6)
    expected = 1e-6 * (index + 1) * ((index >= 0) & (index < n_frames))
    # float32 rounding of a mean of 640 equal values.
    torch.testing.assert_close(windows, expected, rtol=1e-5, atol=0)


def test_features_before_the_first_are_null_and_those_after_the_end_are_silence():
    extractor = AudioExtractor(MelEncoder(), GEOMETRY)
    features = extractor.features_of(torch.zeros(CHUNK), 2)[0]
    silence = MelEncoder()(torch.zeros(1, FRAME))[0, 0]
    assert (silence != 0).all(), "silence is not null"
    assert (features[0, :2] == 0).all()
    assert (features[0, 2:] == silence).all()
    assert (features[1:] == silence).all()


def test_a_chunk_waits_for_160_ms_past_its_end_and_hears_no_more():
    extractor = AudioExtractor(MelEncoder(), GEOMETRY)
    end = GEOMETRY.audio_end(0)
    assert end == CHUNK + 0.16 * GEOMETRY.sample_rate
    short = extractor.start().push(noise(1.0)[: end - 1])
    assert not extractor.ready(short, 0)
    assert extractor.ready(short.end(), 0)
    assert extractor.ready(short.push(torch.zeros(1)), 0)
    heard = [
        extractor.extract(extractor.start().push(torch.cat([noise(1.0)[:end], rest])), 0)[0]
        for rest in (torch.zeros(5_000), 0.9 * torch.ones(5_000))
    ]
    assert torch.equal(*heard)


@ENCODERS
def test_no_seam_at_thirty_seconds(make_encoder):
    extractor = AudioExtractor(make_encoder(), GEOMETRY)
    # One chunk of noise over and over, so quiet that the gain is constant, at its limit.
    period = noise(GEOMETRY.chunk_seconds, level=1e-3)
    n_chunks = 145
    assert n_chunks * GEOMETRY.chunk_seconds > 69
    features = extractor.features_of(period.repeat(n_chunks + 1), n_chunks)
    per_chunk = features[0].unflatten(0, (n_chunks, GEOMETRY.chunk_latents))
    full_ring = 17
    assert not torch.equal(per_chunk[full_ring], per_chunk[0])
    assert (per_chunk[full_ring:] == per_chunk[full_ring]).all()


@ENCODERS
def test_a_long_stream_equals_a_fresh_one_with_its_last_ring(make_encoder):
    extractor = AudioExtractor(make_encoder(), GEOMETRY)
    # Quiet enough for both gains to be at their limit from the first chunk on.
    wave = noise(40.0, level=1e-3)
    last, fresh = 75, 16
    start = GEOMETRY.audio_end(last) - GEOMETRY.audio_end(fresh)
    assert GEOMETRY.audio_end(fresh) >= extractor.ring_samples
    long = extractor.features_of(wave, last + 1)[:, -GEOMETRY.chunk_latents :]
    short = extractor.features_of(wave[start:], fresh + 1)[:, -GEOMETRY.chunk_latents :]
    assert torch.equal(long, short)


@ENCODERS
def test_audio_delayed_by_a_chunk_delays_its_features_by_a_chunk(make_encoder):
    extractor = AudioExtractor(make_encoder(), GEOMETRY)
    # A silent first chunk: it alone hears 16 new features, the others 12, which rounds otherwise.
    wave = torch.cat([torch.zeros(GEOMETRY.audio_end(0)), noise(3.0)])
    delayed = torch.cat([torch.zeros(CHUNK), wave])
    latents = GEOMETRY.chunk_latents
    features = extractor.features_of(wave, 8)[:, latents:]
    assert torch.equal(extractor.features_of(delayed, 9)[:, 2 * latents :], features)


def test_audio_delayed_by_a_latent_delays_its_features_by_a_latent():
    extractor = AudioExtractor(MelEncoder(), GEOMETRY)
    latent_samples = GEOMETRY.temporal_stride * FRAME
    # At the gain's limit, and all of it within 80 dB, so that neither gain nor Whisper's clamp to
    # the ring's maximum, which are updated once a chunk, tells the two apart.
    generator = torch.Generator().manual_seed(0)
    wave = 1e-3 * torch.randn(12 * CHUNK, generator=generator)
    delayed = torch.cat([torch.zeros(latent_samples), wave])
    features = extractor.features_of(wave, 10)[:, 1:-1]
    shifted = extractor.features_of(delayed, 10)[:, 2:]
    # float32 rounding of a mel frame elsewhere in the ring's matrix product.
    torch.testing.assert_close(shifted, features, rtol=0, atol=1e-5)


def test_gain_follows_the_audio_and_serves_the_whole_ring():
    extractor = AudioExtractor(FrameMean(), GEOMETRY)
    wave = noise(3.0) + 0.01  # FrameMean hears the offset
    _, state = stream(extractor, wave, [len(wave)], 5)
    features, after = extractor.extract(state, 5)
    gain = extractor.meter.gain(after.loudness)
    assert gain.item() != extractor.meter.gain(state.loudness).item()
    window = FrameMean()(gain * after.ring)[0, -18:-2, 0]
    assert torch.equal(features[0, :, :, 0], window.unfold(0, 8, 4))


def test_states_are_values_and_replay():
    extractor = AudioExtractor(MelEncoder(), GEOMETRY)
    buffer = noise(2.0)
    state = extractor.start().push(buffer)
    before = [tensor.clone() for tensor in all_tensors(state)]
    first, after = extractor.extract(state, 0)
    buffer.zero_()
    assert all(torch.equal(*pair) for pair in zip(before, all_tensors(state), strict=True))
    again, replayed = extractor.extract(state, 0)
    assert torch.equal(first, again)
    for field in fields(AudioState):
        if field.name not in ("ring", "pending", "loudness"):
            assert getattr(after, field.name) == getattr(replayed, field.name)
    assert all(
        torch.equal(*pair) for pair in zip(all_tensors(after), all_tensors(replayed), strict=True)
    )


def test_memory_is_the_ring_and_what_is_ahead():
    extractor = AudioExtractor(FrameMean(), GEOMETRY)
    state = extractor.start().push(noise(60.0))
    empty = sum(t.untyped_storage().nbytes() for t in all_tensors(extractor.start()))
    for chunk in range(100):
        _, state = extractor.extract(state, chunk)
    ahead = state.received - GEOMETRY.audio_end(99)
    held = sum(tensor.untyped_storage().nbytes() for tensor in all_tensors(state))
    # float32, and less than a frame over at the end of the push.
    assert held <= empty + 4 * (ahead + FRAME)


def test_rows_of_a_batch_are_streams_of_their_own():
    extractor = AudioExtractor(MelEncoder(), GEOMETRY)
    rows = [noise(2.0), noise(2.0, level=1e-3, seed=1)]
    both = extractor.features_of(torch.stack(rows), 4)
    for i, row in enumerate(rows):
        # float32: a batch may be transformed and multiplied in another order.
        torch.testing.assert_close(both[i], extractor.features_of(row, 4)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(3, 10), r"shape \[3, 10\]; push floats of shape \[1, samples\]"),
        (torch.zeros(1, 1, 10), r"shape \[1, 1, 10\]"),
        (torch.zeros(10, dtype=torch.int16), "int16"),
        (torch.tensor([0.0, float("nan")]), "non-finite"),
    ],
)
def test_push_refuses_what_is_no_audio(samples, message):
    with pytest.raises(ValueError, match=message):
        AudioExtractor(MelEncoder(), GEOMETRY).start().push(samples)


def test_order_and_end_are_kept():
    extractor = AudioExtractor(MelEncoder(), GEOMETRY)
    state = extractor.start().push(noise(1.0))
    with pytest.raises(ValueError, match="after its end"):
        state.end().push(torch.zeros(1))
    with pytest.raises(ValueError, match="chunk 1 cannot be extracted: the next is 0"):
        extractor.extract(state.end(), 1)
    _, state = extractor.extract(state, 0)
    with pytest.raises(ValueError, match="16000 of 17920 samples are there"):
        extractor.extract(state, 1)


@pytest.mark.parametrize("ring_seconds", [0.5, 8.01])
def test_a_ring_that_does_not_fit_is_refused(ring_seconds):
    with pytest.raises(ValueError, match=f"ring_seconds is {ring_seconds}"):
        AudioExtractor(MelEncoder(), GEOMETRY, ring_seconds)


def test_rates_of_encoder_and_geometry_must_agree():
    encoder: AudioEncoder = MelEncoder()
    with pytest.raises(ValueError, match="needs 16000 and 640"):
        AudioExtractor(encoder, replace(GEOMETRY, fps=50))
