"""A checkpoint of diffusers into a pipeline's folder: what comes out."""

import itertools
import json
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from whisper.model import AudioEncoder as WhisperAudioEncoder

from flowact.import_hunyuan15 import PARTS, by_layer
from flowact.models.audio_encoder import WhisperEncoder
from flowact.models.components import load_transformer, save_whisper
from flowact.models.hunyuan15_weights import plan_import, write_transformer
from flowact.models.text_encoder import TextInputs
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.settings import TransformerConfig

SCRIPT = Path(__file__).parents[2] / "scripts" / "import_hunyuan15.py"
NEW = ("audio_projector.", "transformer_blocks.0.audio.", "transformer_blocks.2.audio.")
TEXT_STREAM = ("norm1_context.", "ff_context.", "attn.add_", "attn.to_add_out.", "attn.norm_added_")


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


@torch.no_grad()
def test_a_full_import_gives_the_bases_output(run_import, hunyuan_base, hunyuan_checkpoint, output):
    as_the_base = ("model.transformer.attention=full", "model.transformer.text_level=same")
    report = run_import(hunyuan_checkpoint, output, *as_the_base)
    assert report.dropped == report.absent == ()
    assert all(name.startswith(NEW) for name in report.new)
    model = load_transformer(output / "transformer", torch.float32)
    weights = model.state_dict()
    assert report.weights == len(hunyuan_base.state_dict()) + len(report.new) == len(weights)
    assert report.bytes == 4 * sum(weight.numel() for weight in weights.values())
    x, time = keyed_normal((2, 9, 3, 2, 4), "x"), torch.tensor([900.0, 300.0])
    text, text_2 = keyed_normal((2, 5, 16), "text"), keyed_normal((2, 4, 12), "text 2")
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    mask_2 = torch.arange(4) < torch.tensor([[0], [4]])
    image = keyed_normal((2, 6, 8), "image")
    expected = hunyuan_base(x, time, text, mask, None, text_2, mask_2, image).sample
    # The adapter's output starts at zero, so that audio changes nothing yet.
    audio = keyed_normal((2, 3, 8, 320), "audio")
    given = model(x, time, TextInputs(text, mask, text_2, mask_2, image), audio)
    # Other orders of summation in float32, of values around 1.
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)


def test_a_decoupled_import_drops_the_text_stream_of_temporal_layers(
    run_import, hunyuan_base, hunyuan_checkpoint, output
):
    report = run_import(hunyuan_checkpoint, output, "model=hunyuan15_decoupled")
    theirs = hunyuan_base.state_dict()
    dropped = {
        name
        for name in theirs
        for layer, part in itertools.product((1, 3), TEXT_STREAM)
        if name.startswith(f"transformer_blocks.{layer}.{part}")
    }
    assert set(report.dropped) == dropped
    assert len(dropped) == 2 * 16
    ours = load_transformer(output / "transformer", torch.float32).state_dict()
    assert ours.keys() == (theirs.keys() - dropped) | set(report.new)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs.keys() - dropped)
    for name in report.new:
        zero = ".audio.to_out." in name or name == "audio_projector.norm.bias"
        assert bool(ours[name].any()) is not zero, name


def test_a_whole_folder_streams(run_import, hunyuan_checkpoint, picture, output, tmp_path):
    whisper = WhisperEncoder(WhisperAudioEncoder(80, 1500, 16, 2, 2))
    save_whisper(whisper, tmp_path / "own.pt")
    words = ("model=hunyuan15_decoupled", f"whisper={tmp_path / 'own.pt'}")
    run_import(hunyuan_checkpoint, output, *words)
    for part in PARTS:
        for file in (hunyuan_checkpoint / part).iterdir():
            assert file.samefile(output / part / file.name)
    output = output.rename(tmp_path / "moved")  # nothing in it may name the place it was made at
    (tmp_path / "own.pt").unlink()
    pipeline = FlowActPipeline.from_pretrained(output)
    wave = keyed_normal((1, 6_400), "wave")
    assert torch.equal(pipeline.audio_encoder(wave), whisper(wave))
    assert pipeline.transformer.config.audio_feature_dim == whisper.feature_dim
    sound = (0.1 * wave[0]).numpy()
    frames = list(pipeline.stream(picture, sound, 'A sign says "Hi".', sample_rate=16_000))
    assert np.stack(frames).shape == (10, 32, 48, 3)


def test_whisper_that_is_not_saved_is_loaded_by_name(run_import, hunyuan_checkpoint, output):
    named = ("model.audio_encoder.kind=whisper", "model.audio_encoder.model=largest")
    run_import(hunyuan_checkpoint, output, *named)
    index = json.loads((output / "model_index.json").read_text())
    assert index["audio_encoder"]["model"] == "largest"
    with pytest.raises(ValueError, match="'largest' is neither a file nor a Whisper model"):
        FlowActPipeline.from_pretrained(output)


def test_a_bare_transformer_lacks_the_other_parts(run_import, hunyuan_checkpoint, output):
    report = run_import(hunyuan_checkpoint / "transformer", output)
    assert report.absent == PARTS
    written = sorted(path.name for path in output.iterdir())
    assert written == ["model_index.json", "transformer"]


# --- memory and precision -----------------------------------------------------------------------


class PeakMemory(threading.Thread):
    """``with PeakMemory() as peak``: ``peak.grown`` is the most resident memory that was added."""

    def __enter__(self) -> "PeakMemory":
        self.grown, self._done = 0, threading.Event()
        self._before = psutil.Process().memory_info().rss
        self.start()
        return self

    def run(self) -> None:
        process = psutil.Process()
        while not self._done.wait(0.0005):
            self.grown = max(self.grown, process.memory_info().rss - self._before)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


def test_one_shard_is_held_at_a_time_and_precision_stays(make_base, tmp_path, output):
    model = make_base(attention_head_dim=256, rope_axes_dim=(64, 96, 96)).bfloat16()
    model.save_pretrained(tmp_path / "in")
    total = sum(2 * parameter.numel() for parameter in model.parameters())
    del model
    shard = 10_000_000
    plan = plan_import(tmp_path / "in", TransformerConfig(audio_feature_dim=4, audio_dim=16))
    output.mkdir()
    with PeakMemory() as peak:
        size = write_transformer(plan, output, shard)
    weights: dict[str, Tensor] = {}
    for file in output.glob("*.safetensors"):
        own = load_file(file)
        assert sum(weight.nbytes for weight in own.values()) <= shard
        weights |= own
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert size == sum(weight.nbytes for weight in weights.values()) > total > 8 * shard
    # A shard as it is read, the new weights, and room for what allocators round up.
    new = sum(weights[name].nbytes for name in plan.new)
    assert peak.grown < new + 2 * shard


# --- the script ---------------------------------------------------------------------------------


def test_weights_are_told_by_layer():
    names = ["a.b", *(f"transformer_blocks.{n}.audio.to_q.bias" for n in (0, 2, 10))]
    assert by_layer(names) == ["a.b", "transformer_blocks.{0,2,10}.audio.to_q.bias"]


def test_the_script_tells_what_it_did(hunyuan_checkpoint, output, monkeypatch, capsys):
    words = [f"source={hunyuan_checkpoint / 'transformer'}", f"output={output}"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words, "model=hunyuan15_decoupled"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    told = capsys.readouterr().out
    assert told.startswith(f"{output}: ")
    assert "32 dropped" in told
    assert "  transformer_blocks.{1,3}.attn.add_q_proj.weight\n" in told
    assert "  transformer_blocks.{0,2}.audio.to_out.weight\n" in told
    assert "7 absent" in told
