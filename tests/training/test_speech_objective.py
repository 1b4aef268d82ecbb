"""The audio adapter learns to hear mouths, and it alone is kept."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from window_training import make_draws

from flowact.data.actors.speech import make_soundtrack
from flowact.models.audio_encoder import WhisperEncoder
from flowact.pipeline import FlowActPipeline
from flowact.settings import AudioEncoderConfig, AudioEncoderKind
from flowact.streaming.audio import AudioExtractor
from flowact.training.objectives.speech import CHUNKS, MOUTH, SpeechDataset, build_speech
from flowact.training.settings import TrainConfig

GEOMETRY = tiny_config().geometry


def make_objective(model=None, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_speech(
            TrainConfig(model=model or tiny_config(), stage="speech", output="", **changes)
        )


def with_whisper():
    """A model with a Whisper of its own, whose features are as wide as its network makes them."""
    model = tiny_config()
    own = AudioEncoderConfig(AudioEncoderKind.whisper, None, width=16, layers=1, heads=2)
    transformer = replace(model.transformer, audio_feature_dim=2 * 2 * 16)
    return replace(model, audio_encoder=own, transformer=transformer)


def make_dataset(split):
    pipeline = FlowActPipeline.untrained(tiny_config())
    return SpeechDataset(AudioExtractor(pipeline.audio_encoder, GEOMETRY), 0, split)


def test_mouths_are_shut_in_silence_and_move_in_speech():
    dataset = make_dataset("validation")
    sample, frames = dataset[1], GEOMETRY.temporal_stride
    assert sample.mouth.shape == (1, CHUNKS * GEOMETRY.chunk_latents, frames, len(MOUTH))
    features = dataset.extractor.encoder.of_mel(sample.mel.float())
    windows = dataset.extractor.windows(features, CHUNKS - 1, CHUNKS)
    assert windows.shape[:3] == (*sample.mouth.shape[:2], GEOMETRY.latent_window)
    level = windows[0].mean(dim=(1, 2))
    shut = (sample.mouth[0].abs() < 1e-3).all(dim=1).all(dim=1)
    assert 0 < shut.float().mean() < 0.6
    assert level[~shut].mean() > level[shut].mean() + 0.3  # of features that vary by about 1


def test_what_is_heard_is_what_a_stream_hears():
    """Of the last chunk; what the windows of earlier ones hear besides is later sound."""
    dataset = make_dataset("validation")
    extractor = dataset.extractor
    wave = torch.randn(GEOMETRY.audio_end(CHUNKS)) / 10
    features = extractor.encoder(extractor.heard(wave, CHUNKS - 1))
    last = extractor.windows(features, CHUNKS - 1, CHUNKS)[:, -GEOMETRY.chunk_latents :]
    assert torch.equal(last, extractor.features_of(wave, CHUNKS)[:, -GEOMETRY.chunk_latents :])
    two = extractor.windows(features, 1, 2)  # as if the video had just begun
    assert not two[:, 0, : GEOMETRY.window_left].any()
    assert torch.equal(two[:, GEOMETRY.chunk_latents :], extractor.windows(features, 1))


def test_a_sample_is_a_function_of_its_number_and_a_split_has_voices_of_its_own(monkeypatch):
    dataset, again = make_dataset("train"), make_dataset("train")
    for n in (0, 1):
        assert torch.equal(dataset[n].mel, again[n].mel)
    assert not torch.equal(dataset[0].mouth, dataset[2].mouth)
    heard = []

    def listening(*given):
        heard.append(make_soundtrack(*given))
        return heard[-1]

    monkeypatch.setattr("flowact.training.objectives.speech.make_soundtrack", listening)
    voices = {}
    for split in ("train", "validation"):
        own = make_dataset(split)
        heard.clear()
        assert all(own[n].mel.shape == own[0].mel.shape for n in range(8))
        voices[split] = {sound.voice for sound in heard}
    assert not voices["train"] & voices["validation"]


@pytest.mark.parametrize("model", [tiny_config, with_whisper])
def test_mouths_are_learnt_by_heart(model):
    objective = make_objective(model())
    batch = objective.collate([objective.dataset[n] for n in range(2)])
    reader = objective.networks["reader"]
    optimiser = torch.optim.AdamW(reader.parameters(), lr=1e-3)
    losses = []
    for _ in range(160):
        losses.append(objective.loss("reader", batch, make_draws(range(2))).total)
        optimiser.zero_grad()
        losses[-1].backward()
        assert all(weight.grad is not None for weight in reader.parameters())
        optimiser.step()
    guess = batch.mouth.var(dim=(0, 1, 2), unbiased=False).mean()  # the error of the mean
    assert losses[0] > guess
    assert losses[-1] < 0.5 * guess


@pytest.mark.parametrize("model", [tiny_config, with_whisper])
def test_what_is_learnt_is_in_the_pipeline_and_can_be_trained_on(tmp_path, model):
    objective = make_objective(model())
    reader = objective.networks["reader"]
    with torch.no_grad():
        for weight in reader.parameters():
            weight.add_(0.1)
    pipeline = FlowActPipeline.untrained(model())
    objective.install(pipeline)
    assert not any(weight.requires_grad for weight in parameters_of(pipeline.audio_encoder))
    pipeline.save_pretrained(tmp_path / "weights")
    again = make_objective(weights=str(tmp_path / "weights")).networks["reader"]
    kept = {n: w for n, w in reader.state_dict().items() if not n.startswith("mouth.")}
    assert {n.partition(".")[0] for n in kept} >= {"projector"}
    for name, weight in kept.items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_previews_correlate_what_is_told_with_the_truth(monkeypatch):
    monkeypatch.setattr("flowact.training.objectives.speech.PREVIEW_UTTERANCES", 2)
    objective = make_objective()
    truth = torch.cat([make_dataset("validation")[n].mouth for n in range(2)])

    class Told(torch.nn.Module):
        def __init__(self, mouth):
            super().__init__()
            self.mouth = torch.nn.Parameter(mouth, requires_grad=False)

        def forward(self, mel):
            return self.mouth

    for told, r in ((3 * truth + 1, 1.0), (-truth, -1.0), (torch.zeros_like(truth), 0.0)):
        objective.networks["reader"] = Told(told)
        found = objective.preview(None, 0)
        assert list(found) == [f"unseen_{name}_r" for name in MOUTH]
        assert list(found.values()) == pytest.approx([r] * 3, abs=1e-5)


def parameters_of(encoder):
    return encoder.parameters() if isinstance(encoder, WhisperEncoder) else ()


def test_a_model_that_does_not_hear_is_refused():
    model = tiny_config()
    deaf = replace(model, transformer=replace(model.transformer, audio_feature_dim=None))
    with pytest.raises(ValueError, match="tiny has no audio adapter"):
        make_objective(model=deaf)
