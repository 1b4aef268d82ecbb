"""The diffusers-style face, on real parts."""

import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import HEIGHT, WIDTH, tiny_config

import flowact
from flowact.models.caches import StreamInputs
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.runtime import resolve_device, resolve_dtype
from flowact.settings import AudioEncoderConfig, AudioEncoderKind, Precision, StreamSettings


@pytest.fixture
def sound():
    return (0.1 * keyed_normal((16_000,), "sound")).numpy()


@pytest.fixture(scope="module")
def saved(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tiny_pipeline.save_pretrained(folder)
    return folder


def test_call_gives_the_frames_that_stream_gives(tiny_pipeline, picture, sound):
    frames = tiny_pipeline(picture, sound, "She waves.", sample_rate=16_000).frames
    assert frames.shape == (25, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    streamed = list(tiny_pipeline.stream(picture, sound, "She waves.", sample_rate=16_000))
    assert np.array_equal(frames, np.stack(streamed))


def test_a_live_source_is_blocks(tiny_pipeline, picture, sound):
    whole = tiny_pipeline(picture, sound, sample_rate=16_000).frames
    assert np.array_equal(whole, tiny_pipeline(picture, iter(np.array_split(sound, 7))).frames)


def test_files_work_as_objects_do(tiny_pipeline, picture, sound, tmp_path):
    picture.save(tmp_path / "face.png")
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((sound * 32767).round().astype("<i2").tobytes())
    frames = tiny_pipeline(tmp_path / "face.png", tmp_path / "speech.wav").frames
    direct = tiny_pipeline(picture, sound, sample_rate=16_000).frames
    # 16-bit samples are not the float ones: the pictures are close, not equal.
    assert np.abs(frames.astype(int) - direct).mean() < 2


def test_nothing_tells_where_weights_were(saved, tmp_path):
    FlowActPipeline.from_pretrained(saved).save_pretrained(tmp_path / "again")
    configs = list((tmp_path / "again").rglob("*.json"))
    assert len(configs) > 3
    assert not [path for path in configs if str(saved) in path.read_text()]


def test_weights_of_another_version_are_refused(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    path = tmp_path / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precondition": True}))
    with pytest.raises(ValueError, match="has precondition, which this version does not know"):
        FlowActPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("rate", [None, 0, -1])
def test_an_array_needs_its_rate_and_that_is_said_at_once(tiny_pipeline, picture, sound, rate):
    with pytest.raises(ValueError, match="sample_rate"):
        tiny_pipeline.stream(picture, sound, sample_rate=rate)


def test_blocks_have_their_rate(tiny_pipeline, picture, sound):
    with pytest.raises(ValueError, match="sample_rate"):
        tiny_pipeline.stream(picture, iter([sound]), sample_rate=48_000)


def test_a_tensor_is_an_array(tiny_pipeline, picture, sound):
    frames = tiny_pipeline(picture, torch.from_numpy(sound), sample_rate=16_000).frames
    assert np.array_equal(frames, tiny_pipeline(picture, sound, sample_rate=16_000).frames)


def test_an_unfinished_stream_does_not_keep_the_interpreter():
    """A script that takes one frame and ends, ends."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "from PIL import Image\n"
        "from tiny import HEIGHT, WIDTH, tiny_config\n"
        "from flowact import FlowActPipeline\n"
        "picture = Image.new('RGB', (WIDTH, HEIGHT))\n"
        "sound = np.zeros(16_000 * 60, np.float32)\n"
        "pipeline = FlowActPipeline.untrained(tiny_config())\n"
        "frames = pipeline.stream(picture, sound, sample_rate=16_000)\n"
        "print(next(frames).shape)\n"
    )
    tests = str(Path(__file__).parent)
    out = subprocess.run(
        [sys.executable, "-c", code, tests], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.strip() == f"({HEIGHT}, {WIDTH}, 3)"


def test_evaluation_and_training_share_a_process(picture, sound):
    """Nothing that a stream leaves behind stops a gradient."""
    config = tiny_config()
    config.transformer.layer_pattern = ("spatial", "temporal")
    config.transformer.temporal_windows = (2, 3)
    pipeline = FlowActPipeline.untrained(config)
    pipeline(picture, sound, sample_rate=16_000)
    model = pipeline.transformer
    text = model.encode_text(pipeline.text_encoder.encode(["She waves."]))
    inputs = StreamInputs(
        keyed_normal((1, 4, 3, 4, 6), "x"),
        torch.full((1, 3), 0.5),
        torch.arange(3),
        [text],
        [0] * 3,
    )
    model.denoise(inputs, None).square().sum().backward()
    assert model.proj_out.weight.grad.abs().sum() > 0


def test_seed_decides_the_frames(tiny_pipeline, picture, sound):
    one, again, other = (
        tiny_pipeline(picture, sound, seed=seed, sample_rate=16_000).frames for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_saved_and_loaded_gives_the_same_frames(tiny_pipeline, saved, picture, sound):
    loaded = FlowActPipeline.from_pretrained(saved)
    expected = tiny_pipeline(picture, sound, "She nods.", sample_rate=16_000).frames
    assert np.array_equal(loaded(picture, sound, "She nods.", sample_rate=16_000).frames, expected)
    assert loaded.config.stream == tiny_pipeline.config.stream
    assert loaded.config.geometry == tiny_pipeline.config.geometry
    assert not loaded.trained


def test_a_whisper_is_saved_with_the_pipeline(tmp_path, picture, sound):
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    dims = ModelDimensions(80, 1500, 16, 2, 2, 100, 8, 16, 2, 1)
    net = Whisper(dims)
    torch.save({"dims": dims.__dict__, "model_state_dict": net.state_dict()}, tmp_path / "w.pt")
    config = tiny_config()
    config.audio_encoder = AudioEncoderConfig(AudioEncoderKind.whisper, str(tmp_path / "w.pt"))
    config.transformer.audio_feature_dim = 3 * 2 * 16
    pipeline = FlowActPipeline.untrained(config)
    pipeline.save_pretrained(tmp_path / "saved")
    (tmp_path / "w.pt").unlink()
    loaded = FlowActPipeline.from_pretrained(tmp_path / "saved")
    expected = pipeline(picture, sound, sample_rate=16_000).frames
    assert np.array_equal(loaded(picture, sound, sample_rate=16_000).frames, expected)


def test_untrained_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (
        FlowActPipeline.untrained(tiny_config(), 1),
        FlowActPipeline.untrained(tiny_config(), 1),
    )
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.transformer.parameters(), second.transformer.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not first.trained


def test_bfloat16_streams_close_to_float32(picture, sound):
    wide = FlowActPipeline.untrained(tiny_config())
    narrow = FlowActPipeline.untrained(tiny_config(), dtype=torch.bfloat16)
    frames = [p(picture, sound, sample_rate=16_000).frames.astype(int) for p in (wide, narrow)]
    # Eight bits of mantissa through an untrained decoder: a few steps of 255 on average.
    assert np.abs(frames[0] - frames[1]).mean() < 6


def test_settings_of_a_call_replace_the_models(tiny_pipeline, picture, sound):
    plain = tiny_pipeline(picture, sound, sample_rate=16_000).frames
    four = StreamSettings(micro_steps=4, shift=2.0)
    assert not np.array_equal(
        plain, tiny_pipeline(picture, sound, sample_rate=16_000, stream=four).frames
    )


def _drop(folder, name):
    (folder / name).unlink()


def _edit_index(folder, **changes):
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _drop_weight(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["stray.weight"] = weights.pop("proj_out.weight")
    save_file(weights, path, metadata={"format": "pt"})


def _misshape(folder):
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"text_embed_dim": 20}))


BROKEN = {
    "no index": (lambda f: _drop(f, "model_index.json"), "model_index.json"),
    "no weights": (
        lambda f: _drop(f, "transformer/diffusion_pytorch_model.safetensors"),
        "transformer",
    ),
    "no config": (lambda f: _drop(f, "vae/config.json"), "vae"),
    "index without a key": (lambda f: (f / "model_index.json").write_text("{}"), "lacks"),
    "index is no JSON": (lambda f: (f / "model_index.json").write_text("{"), "model_index.json"),
    "unknown setting": (lambda f: _edit_index(f, geometry={"fsp": 25}), "fsp"),
    "a note that is none": (lambda f: _edit_index(f, note=3), "note is 3"),
    "missing and extra weights": (_drop_weight, "proj_out.weight"),
    "misshapen weights": (_misshape, "context_embedder"),
    "truncated weights": (
        lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 20),
        "vae",
    ),
}


@pytest.mark.parametrize(("breaking", "named"), BROKEN.values(), ids=BROKEN.keys())
def test_weights_that_do_not_fit_are_named(saved, tmp_path, breaking, named):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    breaking(folder)
    with pytest.raises(ValueError, match=named):
        FlowActPipeline.from_pretrained(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        FlowActPipeline.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: setattr(c, "height", 40), "multiples of 8|height"),
        (lambda c: setattr(c.transformer, "audio_feature_dim", 7), "audio_feature_dim"),
        (lambda c: setattr(c.transformer, "out_channels", 5), "out_channels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, named):
    config = tiny_config()
    config.transformer.patch_size = 2
    change(config)
    with pytest.raises(ValueError, match=named):
        FlowActPipeline.untrained(config)


def test_precision_is_what_was_asked_for():
    assert resolve_dtype(Precision.fp32, "cpu") is torch.float32
    assert resolve_dtype(Precision.bf16, "cpu") is torch.bfloat16
    assert resolve_dtype(Precision.auto, "cpu") in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("name", ["tpu", "mps", "meta", "cuda:x", "cuda:99", "cpu 0"])
def test_devices_that_are_not_there_are_named(name):
    with pytest.raises(ValueError, match=f"device={name}"):
        resolve_device(name)


def test_the_pipeline_is_at_the_top_of_the_package():
    assert flowact.FlowActPipeline is FlowActPipeline
