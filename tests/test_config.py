"""From the command line to dataclasses: every file composes, every mistake is named."""

import dataclasses
import shutil
import subprocess
import sys

import pytest

from flowact import config as crossing
from flowact.config import CONFIGS, describe, load_config
from flowact.data.windows import WindowsConfig
from flowact.evaluation.settings import EvaluateConfig
from flowact.geometry import Geometry
from flowact.runs import BenchmarkConfig, SampleConfig, StreamOverrides
from flowact.settings import StreamSettings
from flowact.training.distill_settings import DmdConfig, GuidanceConfig, StepsConfig
from flowact.training.settings import OptimiserKind, TrainConfig

GIVEN = ["image=a.png", "audio=b.wav", "output=c.mp4"]


def load(*words):
    return load_config("sample", [*GIVEN, *words], SampleConfig)


@pytest.mark.parametrize("name", sorted(crossing.SCHEMAS))
def test_every_primary_file_has_a_schema_and_is_described(name):
    assert (CONFIGS / f"{name}.yaml").is_file()
    assert describe(name).count("\n") > len(dataclasses.fields(crossing.SCHEMAS[name]))


def test_every_primary_file_is_listed():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(crossing.SCHEMAS)


def test_a_preset_that_comes_with_weights_has_them_unless_it_is_changed():
    (demo,) = crossing.SHIPPED.values()
    assert load().weights == str(demo)
    assert load("model=small").weights is None
    assert load("model.stream.shift=3").weights is None
    words = ["suite=actors", "output=a.json", "model=demo"]
    assert load_config("evaluate", words, EvaluateConfig).weights == str(demo)
    assert load_config("train", ["experiment=vae", "output=o"], TrainConfig).weights is None


def test_a_command_line_is_read_before_torch_is_loaded():
    # which takes seconds, and a mistake or --help should not.
    said = "import sys, flowact.config; print({'torch', 'diffusers', 'av'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def test_values_cross_as_their_types():
    config = load("seed=7", "model.geometry.long_term=2", "model.stream.shift=3")
    assert config.seed == 7
    assert config.model.geometry == Geometry(long_term=2, spatial_stride=8)
    assert config.model.stream.shift == 3.0
    assert config.model.transformer.rope_axes_dim == (16, 20, 20)
    assert config.weights is None


def test_a_run_overrides_the_model_key_by_key():
    config = load("stream.audio_lag=2")
    assert config.stream == StreamOverrides(audio_lag=2)
    model = StreamSettings(shift=2.0, micro_steps=4)
    assert config.stream.over(model) == StreamSettings(shift=2.0, micro_steps=4, audio_lag=2)


@pytest.mark.parametrize(
    "text",
    [
        "She waves, then smiles.",
        "don't",
        "a \"quote\" and a 'quote'",
        "ends in a backslash \\",
        "C:\\new\\table.wav",
        "\\'",
        "${not} an $interpolation \\${x}",
        "{braces} [brackets] (round) = == :",
        "你好 こんにちは مرحبا 👋🏽",
        "  spaces  ",
        "1.5",
        "true",
        "%@!#^&*?",
    ],
)
def test_text_may_hold_any_character(text):
    assert load(f"prompt={text}").prompt == text
    assert load(f"prompts={text}.json").prompts == f"{text}.json"


@pytest.mark.parametrize("nothing", ["", "null"])
def test_an_empty_text_is_as_if_it_had_not_been_given(nothing):
    assert load("prompt=She waves.", f"prompt={nothing}").prompt == ""
    assert load(f"prompts={nothing}").prompts is None
    assert load(f"weights={nothing}", "model=small").weights is None
    with pytest.raises(ValueError, match="image is missing"):
        load(f"image={nothing}")


def test_the_last_word_wins():
    assert load("image=x.png").image == "x.png"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["imge=a.png"], "no key imge; the nearest is image"),
        (["stream.adio_lag=1"], "no key stream.adio_lag; the nearest is .*stream.audio_lag"),
        (["model.transformer.num_layer=3"], "nearest is model.transformer.num_layers"),
        (["model.autoencoder.config.zdim=3"], "nearest is model.autoencoder.config.z_dim"),
        (["model=demmo"], "model=demmo.*demo"),
        (["demo"], "'demo' is not key=value"),
        (["seed=many"], "seed=many.*Integer"),
        (["precision=fp99"], "precision=fp99.*fp32"),
        (["model.stream.audio_lag=5"], "audio_lag is 5; it must be from 0 to 2"),
        (["model.stream.shift=0"], "shift is 0"),
        (["model.stream.text_scale=2"], "text_scale and stream.audio_scale go together"),
        (["model.geometry.depth=0"], "geometry.depth is 0"),
        (["+foo=1"], "no key [+]foo"),
        (["+stream.adio_lag=1"], "nearest is stream.audio_lag"),
        (["hydra.run.dir=x"], "no key hydra.run.dir"),
        (["~prompt"], "'~prompt' is not key=value"),
        (["=3"], "no key ;"),
        (["stream=null"], "no key stream; the nearest is stream.micro_steps"),
        (["model="], "model=: .*demo"),
        (["model=[demo,small]"], "no such preset"),
        (["prompt=fine", "stream.guidance=2", "seed=1,2"], "^seed=1,2: "),
        (["model.transformer.layer_pattern=[full"], r"^model.transformer.layer_pattern=\[full: "),
        (["weights=DIR", "model=small"], "model=small describes an untrained model"),
        (["model.stream.shift=3", "weights=DIR"], "model.stream.shift=3 describes"),
        (["seed=99999999999999999999999999"], "seed is 99999999999999999999999999"),
        (["seed=-1"], "seed is -1"),
        (["threads=0"], "threads is 0"),
        (["model.height=0"], "model.height is 0"),
        (["model.width=-16"], "model.width is -16"),
        (["model.transformer.patch_size=0"], "model.transformer.patch_size is 0"),
        (["model.transformer.num_layers=-1"], "model.transformer.num_layers is -1"),
        (["model.transformer.mlp_ratio=nan"], "model.transformer.mlp_ratio is nan"),
        (["model.transformer.rope_axes_dim=[0,1,2]"], "model.transformer.rope_axes_dim"),
        (["model.autoencoder.window=0"], "model.autoencoder.window is 0"),
        (["model.text_encoder.heads=0"], "model.text_encoder.heads is 0"),
    ],
)
def test_mistakes_are_named_in_one_line(words, named):
    with pytest.raises(ValueError, match=named) as caught:
        load(*words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "named"),
    [("seconds=0", "seconds is 0"), ("ticks=-1", "ticks is -1"), ("seed=-1", "seed")],
)
def test_numbers_of_the_benchmark_are_bounded(word, named):
    with pytest.raises(ValueError, match=named):
        load_config("benchmark", ["output=b.json", word], BenchmarkConfig)


def test_keys_are_explained_and_presets_listed():
    said = describe("sample")
    assert "image: the person" in said
    assert "seed: of the noise" in said
    assert "micro_steps: model calls per tick" in said
    assert "Presets of model: demo, hunyuan15, hunyuan15_decoupled, small" in said


def experiment(name, *words):
    return load_config("train", [f"experiment={name}", "output=DIR", *words], TrainConfig)


@pytest.mark.parametrize("path", sorted((CONFIGS / "experiment").glob("*.yaml")), ids=str)
def test_every_experiment_crosses(path):
    """And a step of it can be shared by the two processes of cpu2, the demo's default."""
    config = experiment(path.stem)
    assert config.stage in path.stem
    assert config.global_batch % (2 * config.micro_batch) == 0


def test_a_stages_own_defaults_are_kept():
    """Where they are others than their class's, in a class that is below it."""
    assert experiment("guidance").guidance_distillation.windows == GuidanceConfig().windows
    assert experiment("steps").step_distillation.windows == StepsConfig().windows
    assert experiment("dmd").dmd.windows == DmdConfig().windows
    assert experiment("dmd").dmd.windows.start == (0.25,)
    assert experiment("autoregressive").autoregressive.windows == WindowsConfig()


def test_an_experiment_is_over_its_primary_file_and_under_the_words():
    assert load_config("train", ["stage=vae", "output=DIR"], TrainConfig).steps == 1000
    config = experiment("vae")
    assert config.stage == "vae"
    assert config.steps > 1000
    assert config.optimiser.kind is OptimiserKind.muon
    config = experiment("vae", "steps=3", "optimiser.kind=adamw", "model=small")
    assert (config.steps, config.optimiser.kind) == (3, OptimiserKind.adamw)
    assert config.model.name == "small"
    assert experiment("vae", "steps=3").optimiser.lr == experiment("vae").optimiser.lr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["experiment=vea"], "experiment=vea: there is no such preset; .*vae"),
        (["experiment=vae", "optimizer.lr=1"], "no key optimizer.lr; .* optimiser.lr"),
        (["experiment=vae", "vae.clip_frame=5"], "no key vae.clip_frame; .* vae.clip_frames"),
        (["experiment=vae", "optimiser.decay=constant"], "optimiser.decay is constant"),
        (["experiment=vae", "precision=fp99"], "precision=fp99.*bf16"),
        ([], r"stage is missing; give stage=\.\.\."),
    ],
)
def test_mistakes_in_training_are_named(words, named):
    with pytest.raises(ValueError, match=named):
        load_config("train", ["output=DIR", *words], TrainConfig)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz: 3", "/experiment/mine.yaml: there is no key stepz; the nearest is steps"),
        ("vae: {clip_frame: 5}", "no key vae.clip_frame; the nearest is vae.clip_frames"),
        ("vae: {thin: {width: [8]}}", "nearest is vae.thin.widths"),
        ("steps: many", "/experiment/mine.yaml: steps: Value 'many'"),
        ("vae: 3", "/experiment/mine.yaml: Merge error: int is not"),
        ("defaults: [/model: mine]", "In 'experiment/mine': Could not find 'model/mine'"),
    ],
)
def test_mistakes_in_a_preset_are_named_with_their_file(tmp_path, monkeypatch, text, named):
    shutil.copytree(CONFIGS, tmp_path / "configs")
    monkeypatch.setattr(crossing, "CONFIGS", tmp_path / "configs")
    file = tmp_path / "configs" / "experiment" / "mine.yaml"
    file.write_text(f"# @package _global_\nstage: vae\n{text}\n")
    with pytest.raises(ValueError, match=named) as caught:
        experiment("mine", "steps=3")
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match=r"audio is missing; give audio=\.\.\. output=\.\.\."):
        load_config("sample", ["image=a.png"], SampleConfig)
