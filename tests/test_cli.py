"""The commands as a user types them: what works, and what ends in one line and exit code 2."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from flowact.cli import main
from flowact.models.vae_thin import ThinDecoder, ThinSizes
from flowact.models.vae_thin_weights import save_thin_decoder
from flowact.pipeline import FlowActPipeline
from flowact.runs import SampleConfig
from flowact.streaming.engine import Engine

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "realdata"
KEYS = {
    "frames", "fps", "video_fps", "ttff_s", "tick_s", "stage_s", "deadline_misses",
    "calls_per_chunk", "nfe_per_chunk", "calls", "refine_calls", "ramp_calls", "peak_rss_mb",
    "seed", "precision", "device", "threads_per_stage", "weights", "model", "synthetic",
    "interrupted", "fixed_levels", "decoder", "attention", "quantize", "compile", "graphs",
    "offload",
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tiny_pipeline, tmp_path_factory):
    """The tiny pipeline as a folder, so that a run takes a fraction of a second."""
    folder = tmp_path_factory.mktemp("cli") / "weights"
    tiny_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def given(tmp_path, picture, weights):
    """A good image, a second of good audio, and words that name them."""
    picture.save(tmp_path / "face.png")
    write_wav(tmp_path / "speech.wav", 0.1 * np.random.default_rng(0).normal(size=16_000))
    return {
        "image": tmp_path / "face.png",
        "audio": tmp_path / "speech.wav",
        "output": tmp_path / "video.mp4",
        "weights": weights,
    }


@pytest.fixture
def thin(tmp_path):
    """A thin decoder of the tiny pipeline's latents."""
    path = tmp_path / "thin.safetensors"
    save_thin_decoder(ThinDecoder(ThinSizes(4, (8, 6, 4), (2, 2), patch=2, blocks=1)), path)
    return path


def write_wav(path, samples, rate=16_000):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def run(monkeypatch, words):
    """``scripts/sample.py`` in this process."""
    from flowact.sampling import sample

    said = [f"{k}={v}" for k, v in words.items()] if isinstance(words, dict) else words
    monkeypatch.setattr(sys, "argv", ["sample.py", *said])
    main("sample", SampleConfig, lambda config: reports.append(sample(config)), "Sample.")


reports: list[dict] = []


def fails(monkeypatch, capsys, words, named):
    """The run ends in exit code 2 and one line that says what is wrong; nothing is written."""
    before = {p: p.stat().st_mtime_ns for p in Path(words["output"]).parent.rglob("*")}
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, words)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2
    assert last.startswith("error: ")
    assert named in last
    assert {p: p.stat().st_mtime_ns for p in Path(words["output"]).parent.rglob("*")} == before


def decoded(path):
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video))
        return frames, video.average_rate, bool(container.streams.audio)


def test_a_video_and_its_report(monkeypatch, given, tmp_path):
    run(monkeypatch, given)
    assert decoded(given["output"]) == (25, 25, True)
    report = json.loads((tmp_path / "video.json").read_text())
    assert set(report) == KEYS
    assert report["frames"] == 25
    assert set(report["tick_s"]) == {"p50", "p95", "p99", "max"}
    assert (report["calls_per_chunk"], report["nfe_per_chunk"]) == (1, 3)
    assert (report["calls"], report["ramp_calls"]) == (5, 2)
    assert report["weights"].startswith("sha256:")
    assert report["synthetic"] is True
    assert (report["attention"], report["quantize"]) == ("native", "none")


def test_a_video_in_other_arithmetic(monkeypatch, given, tmp_path):
    """Both keys at once, with fixed levels, through the engine's threads."""
    words = {"attention": "flex", "quantize": "int8", "fixed_levels": True, "device": "cpu"}
    run(monkeypatch, given | words)
    assert decoded(given["output"]) == (25, 25, True)
    report = json.loads((tmp_path / "video.json").read_text())
    assert (report["attention"], report["quantize"]) == ("flex", "int8")


def test_a_thin_decoder_takes_the_place_of_the_autoencoders(monkeypatch, given, thin, tmp_path):
    run(monkeypatch, given)
    run(monkeypatch, given | {"output": tmp_path / "thin.mp4", "decoder": thin})
    assert decoded(tmp_path / "thin.mp4") == decoded(given["output"])
    assert (tmp_path / "thin.mp4").read_bytes() != given["output"].read_bytes()
    own, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("video", "thin"))
    assert own["decoder"] is None
    assert other["decoder"].startswith("sha256:")


def test_the_same_seed_gives_the_same_file(monkeypatch, given, tmp_path):
    for name in ("one", "two"):
        run(monkeypatch, given | {"output": tmp_path / f"{name}.mp4"})
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_the_file_says_that_it_is_synthetic(monkeypatch, given):
    run(monkeypatch, given)
    with av.open(str(given["output"])) as container:
        assert "trainedAlgorithmicMedia" in json.dumps(dict(container.metadata))


def test_untrained_weights_are_called_so(monkeypatch, capsys, given, tmp_path):
    words = {k: v for k, v in given.items() if k != "weights"} | {"model.stream.shift": 3}
    write_wav(tmp_path / "short.wav", np.zeros(3000))
    run(monkeypatch, words | {"audio": tmp_path / "short.wav"})
    said = capsys.readouterr().err
    assert "untrained" in said
    assert "is silent" in said
    assert "untrained" in reports[-1]["weights"]


def test_what_weights_do_not_know_is_said(monkeypatch, capsys, given, tmp_path):
    pipeline = FlowActPipeline.from_pretrained(given["weights"])
    pipeline.note = "it knows tulips alone"
    pipeline.save_pretrained(tmp_path / "noted")
    run(monkeypatch, given | {"weights": tmp_path / "noted"})
    assert "noted: it knows tulips alone" in capsys.readouterr().err
    run(monkeypatch, given)
    assert "tulips" not in capsys.readouterr().err


def test_a_schedule_is_sorted_and_cut_and_that_is_said(monkeypatch, capsys, given, tmp_path):
    schedule = [
        {"start": 9.0, "text": "late"},
        {"start": 0.4, "text": "b"},
        {"start": 0, "text": ""},
    ]
    (tmp_path / "s.json").write_text(json.dumps(schedule))
    run(monkeypatch, given | {"prompts": tmp_path / "s.json"})
    said = capsys.readouterr().err
    assert "sorted" in said
    assert "9 s are not seen" in said


@pytest.mark.parametrize("prompt", ["", "мир 世界 👋", "x, y: {z} 'q'", "long " * 500])
def test_prompts_of_any_kind(monkeypatch, capsys, given, prompt):
    run(monkeypatch, given | {"prompt": prompt})
    assert ("is too long" in capsys.readouterr().err) == (len(prompt) > 1000)


class TestBadInput:
    """Exit code 2, one line, nothing written."""

    @pytest.mark.parametrize(
        ("make", "named"),
        [
            (lambda p: None, "x.png"),
            (lambda p: p.write_bytes(b""), "empty"),
            (lambda p: p.write_text("no image at all"), "not an image"),
            (lambda p: Image.new("RGB", (1, 1)).save(p), "1x1"),
            (lambda p: p.mkdir(), "directory"),
        ],
        ids=["missing", "empty", "text", "1x1", "directory"],
    )
    def test_image(self, monkeypatch, capsys, given, tmp_path, make, named):
        path = tmp_path / "x.png"
        make(path)
        fails(monkeypatch, capsys, given | {"image": path}, named)

    def test_truncated_image(self, monkeypatch, capsys, given, tmp_path):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "x.png")
        data = (tmp_path / "x.png").read_bytes()
        (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
        fails(monkeypatch, capsys, given | {"image": tmp_path / "x.png"}, "x.png")

    @pytest.mark.parametrize(
        ("make", "named"),
        [
            (lambda p: None, "x.wav"),
            (lambda p: p.write_bytes(b""), "empty"),
            (lambda p: p.write_text("no sound at all"), "x.wav"),
            (lambda p: write_wav(p, np.zeros(0)), "no sound"),
        ],
        ids=["missing", "empty", "text", "no samples"],
    )
    def test_audio(self, monkeypatch, capsys, given, tmp_path, make, named):
        path = tmp_path / "x.wav"
        make(path)
        fails(monkeypatch, capsys, given | {"audio": path}, named)

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("[", "not JSON"),
            ("{}", "list"),
            ('[{"start": -1, "text": "a"}]', "start"),
            ('[{"start": 0, "text": 5}]', "text"),
            ('[{"begin": 0, "text": "a"}]', "begin"),
        ],
    )
    def test_schedule(self, monkeypatch, capsys, given, tmp_path, text, named):
        (tmp_path / "s.json").write_text(text)
        fails(monkeypatch, capsys, given | {"prompts": tmp_path / "s.json"}, named)

    def test_prompt_and_schedule_together(self, monkeypatch, capsys, given, tmp_path):
        (tmp_path / "s.json").write_text("[]")
        words = given | {"prompts": tmp_path / "s.json", "prompt": "She waves."}
        fails(monkeypatch, capsys, words, "exclude each other")

    @pytest.mark.parametrize("key", ["image", "audio"])
    def test_output_is_an_input(self, monkeypatch, capsys, given, tmp_path, key):
        os.link(given[key], tmp_path / "linked.mp4")
        fails(monkeypatch, capsys, given | {"output": tmp_path / "linked.mp4"}, "also an input")

    def test_output_that_cannot_be_written(self, monkeypatch, capsys, given, tmp_path):
        words = given | {"output": tmp_path / "nowhere" / "video.mp4"}
        words["output"].parent.parent.mkdir(exist_ok=True)
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, words)
        assert ended.value.code == 2
        assert "does not exist" in capsys.readouterr().err

    def test_report_that_cannot_be_written(self, monkeypatch, capsys, given, tmp_path):
        fails(monkeypatch, capsys, given | {"report": tmp_path / "no" / "r.json"}, "r.json")

    def test_report_that_is_an_input(self, monkeypatch, capsys, given, tmp_path):
        (tmp_path / "video.json").write_text("[]")
        words = given | {"prompts": tmp_path / "video.json"}
        fails(monkeypatch, capsys, words, "also an input")

    def test_weights_that_are_not_there(self, monkeypatch, capsys, given, tmp_path):
        fails(monkeypatch, capsys, given | {"weights": tmp_path / "none"}, "none")

    def test_a_decoder_that_is_not_there(self, monkeypatch, capsys, given, tmp_path):
        words = given | {"decoder": tmp_path / "none.safetensors"}
        fails(monkeypatch, capsys, words, "none.safetensors: there is no such file")

    def test_a_decoder_of_other_latents(self, monkeypatch, capsys, given, tmp_path):
        path = tmp_path / "thin.safetensors"
        save_thin_decoder(ThinDecoder(ThinSizes(4, (8, 6, 4), (2, 2), patch=1, blocks=1)), path)
        named = f"decoder={path}: the spatial_stride of the thin decoder is 4"
        fails(monkeypatch, capsys, given | {"decoder": path}, named)

    def test_an_output_whose_name_is_too_long(self, monkeypatch, capsys, given, tmp_path):
        words = given | {"output": tmp_path / f"{'x' * 300}.mp4"}
        fails(monkeypatch, capsys, words, "too long")

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"height": "128"}, 'height is "128"; it must be of type int'),
            ({"height": 0}, "model.height is 0"),
            ({"trained": "no"}, 'trained is "no"; it must be true or false'),
            ({"geometry": {"fps": 2.5}}, "geometry.fps is 2.5"),
            ({"geometry": {"depht": 3}}, "depht"),
            ({"geometry": []}, "geometry is []"),
            ({"text_encoder": {"kind": "clip"}}, "clip"),
            ({"audio_encoder": {"kind": "mel", "model": 5}}, "audio_encoder.model is 5"),
        ],
    )
    def test_an_index_that_was_edited(
        self, monkeypatch, capsys, given, weights, tmp_path, change, named
    ):
        folder = tmp_path / "edited"
        shutil.copytree(weights, folder)
        index = folder / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | change))
        fails(monkeypatch, capsys, given | {"weights": folder}, named)
        fails(monkeypatch, capsys, given | {"weights": folder}, "model_index.json")

    def test_weights_that_do_not_fit(self, monkeypatch, capfd, given, weights, tmp_path):
        """One line in all: diffusers' own of the same are held back."""
        folder = tmp_path / "edited"
        shutil.copytree(weights, folder)
        settings = folder / "transformer" / "config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"num_layers": 3}))
        with pytest.raises(SystemExit):
            run(monkeypatch, given | {"weights": folder})
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert "does not fit: missing keys transformer_blocks.2" in line

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            ({"model.autoencoder.kind": "hunyuan15"}, "model.autoencoder.config does not fit"),
            ({"model.autoencoder.config.base_dim": "abc"}, "model.autoencoder.config does not fit"),
            ({"model.text_encoder.width": 64}, "model.transformer.text_embed_dim is 128"),
            ({"model.text_encoder.heads": 3}, "a multiple of model.text_encoder.heads"),
            ({"model.transformer.audio_window": 9}, "model.transformer.audio_window is 9"),
        ],
    )
    def test_parts_that_do_not_fit(self, monkeypatch, capsys, given, words, named):
        untrained = {key: value for key, value in given.items() if key != "weights"}
        fails(monkeypatch, capsys, untrained | words, named)

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (OSError(errno.ENOSPC, "No space left on device", "v.json"),
             "error: No space left on device: v.json\n"),
            (OSError("gone"), "error: gone\n"),
        ],
    )  # fmt: skip
    def test_a_disk_that_fails_midway(self, monkeypatch, capsys, given, error, said):
        def work(config):
            raise error

        monkeypatch.setattr(sys, "argv", ["sample.py", *(f"{k}={v}" for k, v in given.items())])
        with pytest.raises(SystemExit) as ended:
            main("sample", SampleConfig, work, "Sample.")
        assert ended.value.code == 2
        assert capsys.readouterr().err == said

    def test_a_misspelt_key(self, monkeypatch, capsys, given):
        fails(monkeypatch, capsys, given | {"promt": "hello"}, "the nearest is prompt")

    @pytest.mark.parametrize(
        ("key", "value", "named"),
        [
            ("attention", "fancy", "native_math"),
            ("attention", "native_efficient", "give attention=native"),
            ("quantize", "int9", "int8_weights"),
            ("quantize", "fp8", "give quantize=int8"),
            ("quantize_layers", "[blocks.*]", "blocks.* matches no linear layer"),
        ],
    )
    def test_arithmetic(self, monkeypatch, capsys, given, key, value, named):
        words = given | {"device": "cpu", "quantize": "int8_weights", key: value}
        fails(monkeypatch, capsys, words, named)

    @pytest.mark.parametrize("key", ["device", "decoder_device"])
    def test_a_device_that_is_not_there(self, monkeypatch, capsys, given, key):
        fails(monkeypatch, capsys, given | {key: "cuda:99"}, "cuda:99")

    @pytest.mark.parametrize("key", ["graphs", "offload"])
    def test_what_is_for_gpus(self, monkeypatch, capsys, given, key):
        fails(monkeypatch, capsys, given | {"device": "cpu", key: True}, key)


def test_help_names_every_key(monkeypatch, capsys):
    run(monkeypatch, ["--help"])
    said = capsys.readouterr().out
    assert all(f"\n{key}:" in said for key in ("image", "audio", "output", "prompts", "weights"))


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_a_signal_between_chunks(monkeypatch, capsys, given, tmp_path, chunks):
    """Frames in the file, in the report and on the screen agree; without a frame, no file is."""
    run_engine = Engine.run

    def interrupted(self, audio):
        for number, frames in enumerate(run_engine(self, audio)):
            if number == chunks:
                for _ in range(2):  # an impatient user
                    os.kill(os.getpid(), signal.SIGINT)
            yield frames

    monkeypatch.setattr(Engine, "run", interrupted)
    write_wav(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).normal(size=16_000 * 5))
    words = given | {"audio": tmp_path / "long.wav"}
    if not chunks:
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, words)
        assert ended.value.code == 130
        assert "stopped: nothing was written" in capsys.readouterr().err
        assert not given["output"].exists()
        assert not (tmp_path / "video.json").exists()
        return
    run(monkeypatch, words)
    report = json.loads((tmp_path / "video.json").read_text())
    assert report["interrupted"]
    assert decoded(given["output"])[0] == report["frames"] == 12 * chunks


def test_a_terminal_of_few_characters_ends_no_run():
    code = (
        "from flowact.cli import main; from flowact.runs import SampleConfig; "
        "main('sample', SampleConfig, lambda c: print(c.output), '')"
    )
    words = ["image=a", "audio=b", "output=\u4f60.mp4"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "\\u4f60.mp4\n")


def test_ctrl_c_leaves_a_playable_file(given, tmp_path):
    """A real process, a real signal, in the middle of a long stream."""
    write_wav(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).normal(size=16_000 * 600))
    words = given | {"audio": tmp_path / "long.wav"}
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "sample.py", *(f"{k}={v}" for k, v in words.items())],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while not given["output"].exists() or given["output"].stat().st_size < 20_000:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "playable" in out
    assert "Traceback" not in err
    frames, rate, sound = decoded(given["output"])
    report = json.loads((tmp_path / "video.json").read_text())
    assert 0 < frames == report["frames"] < 600 * 25
    assert (rate, sound, report["interrupted"]) == (25, True, True)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real images and audio beside this checkout")
class TestRealInputs:
    """Every image with one audio, every audio with one image; any two are taken as these are."""

    IMAGES = sorted((REAL / "images").glob("*"))
    AUDIO = sorted((REAL / "audio").glob("*"))

    @pytest.mark.parametrize("image", IMAGES, ids=lambda p: p.name)
    def test_image(self, monkeypatch, given, image):
        run(monkeypatch, given | {"image": image})
        assert decoded(given["output"])[0] == 25

    @pytest.mark.parametrize("audio", AUDIO, ids=lambda p: p.name)
    def test_audio(self, monkeypatch, given, audio):
        from flowact.media.audio import probe_audio

        run(monkeypatch, given | {"audio": audio})
        frames, rate, sound = decoded(given["output"])
        assert (rate, sound) == (25, True)
        assert abs(frames - 25 * probe_audio(audio).seconds) <= 1
