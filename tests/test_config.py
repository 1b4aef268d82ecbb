"""From the command line to dataclasses: every file composes, every mistake is named."""

import pytest

from flowact import config as crossing
from flowact.config import CONFIGS, describe, load_config
from flowact.geometry import Geometry
from flowact.settings import SampleConfig, StreamOverrides, StreamSettings

GIVEN = ["image=a.png", "audio=b.wav", "output=c.mp4"]


def load(*words):
    return load_config("sample", [*GIVEN, *words], SampleConfig)


@pytest.mark.parametrize("name", sorted(crossing.SCHEMAS))
def test_every_primary_file_has_a_schema_and_is_described(name):
    assert (CONFIGS / f"{name}.yaml").is_file()
    assert "model:" in describe(name)


def test_every_primary_file_is_listed():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(crossing.SCHEMAS)


def test_values_cross_as_their_types():
    config = load("seed=7", "model.geometry.long_term=2", "model.stream.shift=3")
    assert config.seed == 7
    assert config.model.geometry == Geometry(long_term=2)
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
    config = load(f"prompt={text}", f"prompts={text}.json")
    assert config.prompt == text
    assert config.prompts == f"{text}.json"


def test_empty_and_null_text():
    assert load("prompt=").prompt == ""
    assert load("prompts=null").prompts is None


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
    ],
)
def test_mistakes_are_named_in_one_line(words, named):
    with pytest.raises(ValueError, match=named) as caught:
        load(*words)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match=r"audio is missing; give audio=\.\.\. output=\.\.\."):
        load_config("sample", ["image=a.png"], SampleConfig)
