"""Every combination of settings is streamed once, and told."""

import json
from pathlib import Path

import pytest
from PIL import Image

from flowact.config import load_config
from flowact.subruns import run_script
from flowact.sweeps import METRICS, SweepConfig, sweep


@pytest.fixture(scope="module")
def weights(tiny_pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "weights"
    tiny_pipeline.save_pretrained(path)
    return path


def test_every_point_is_streamed_once_and_told(weights, tmp_path):
    """By two processes, which share its actors."""
    output = tmp_path / "sweep"
    words = [f"weights={weights}", f"output={output}", "clips=2", "seconds=2", "launch=cpu2"]
    words += ["over=['audio_lag=0,2','micro_steps=2']"]
    run_script("sweep.py", words)
    names = [f"audio_lag={lag} micro_steps=2" for lag in (0, 2)]
    told = {name: json.loads((output / f"{name}.json").read_text()) for name in names}
    for name, report in told.items():
        stream = report["made_by"]["streamed"]["stream"]
        assert f"audio_lag={stream['audio_lag']} micro_steps={stream['micro_steps']}" == name
    lines = (output / "table.md").read_text().splitlines()
    assert lines[0] == "Scores of the whole videos"
    assert lines[2].startswith("| `audio_lag` | `micro_steps` | `lip_sync_r` | ")
    assert [line.split("|")[1:3] for line in lines[4:]] == [[f" {lag} ", " 2 "] for lag in (0, 2)]
    colour = told[names[1]]["scores"]["drift_colour"]["mean"]
    assert f"{colour:.3f}" in lines[5].split("|")[3 + METRICS.index("drift_colour")]
    assert Image.open(output / "sweep.png").width > 500

    # What is there is not made again; other actors and other weights are refused.
    before = {path: path.stat().st_mtime_ns for path in output.glob("audio_lag=*.json")}
    assert sweep(load_config("sweep", words, SweepConfig)) == "\n".join(lines) + "\n"
    with pytest.raises(ValueError, match=r"was made with clips 2; name another output"):
        sweep(load_config("sweep", [*words[:2], "clips=3", *words[3:]], SweepConfig))
    index = weights / "model_index.json"
    index.write_text(index.read_text() + " ")
    with pytest.raises(ValueError, match=r"was made with weights_are \w+; name another output"):
        sweep(load_config("sweep", words, SweepConfig))
    assert before == {path: path.stat().st_mtime_ns for path in output.glob("audio_lag=*.json")}


def test_streams_that_repair_nothing_are_one(weights, tmp_path, monkeypatch):
    """Whatever the level of the repairs that they do not make; each point is told all the same."""
    streamed = []

    def run(_script, words, _launch):
        given = dict(word.split("=", 1) for word in words)
        streamed.append({name: v for name, v in given.items() if name.startswith("stream.")})
        score = {"mean": len(streamed), "low": 0.0, "high": 9.0, "n": 2}
        report = {"scores": dict.fromkeys(METRICS, score), "last_minute_and_first": {}}
        Path(given["output"]).write_text(json.dumps(report))

    monkeypatch.setattr("flowact.sweeps.run_script", run)
    output, over = str(tmp_path / "sweep"), ("refine_every=0,8", "refine_level=0.1,0.5")
    text = sweep(SweepConfig(weights=str(weights), output=output, over=over))
    assert streamed == [
        {"stream.refine_every": "0"},
        {"stream.refine_every": "8", "stream.refine_level": "0.1"},
        {"stream.refine_every": "8", "stream.refine_level": "0.5"},
    ]
    rows = [[cell.split()[0] for cell in line.split("|")[1:4]] for line in text.splitlines()[4:]]
    assert rows == [
        ["0", "0.1", "1.000"],
        ["0", "0.5", "1.000"],
        ["8", "0.1", "2.000"],
        ["8", "0.5", "3.000"],
    ]


def test_a_launch_that_is_not_there_is_named(weights, tmp_path):
    config = SweepConfig(
        weights=str(weights), output=str(tmp_path), over=("audio_lag=0",), launch="gpu9"
    )
    with pytest.raises(ValueError, match="launch is gpu9; choose among cpu1, cpu2, gpu1, gpu8"):
        sweep(config)


def test_points_that_are_no_settings_are_found_before_any_is_streamed(weights, tmp_path):
    words = [f"weights={weights}", f"output={tmp_path / 'sweep'}"]
    for over, message in (("micro_steps=1,0", "micro_steps is 0"), ("guidance=2,-1", "guidance")):
        with pytest.raises(ValueError, match=message):
            sweep(load_config("sweep", [*words, f"over=['{over}']"], SweepConfig))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("over=[]", "over is empty"),
        ("over=['audio_lags=0,1']", "over has 'audio_lags=0,1'; give NAME=VALUE,VALUE with one of"),
        ("over=['audio_lag']", "over has 'audio_lag'"),
        ("over=['audio_lag=0,x']", "over has 'audio_lag=0,x'"),
        ("over=['audio_lag=0','audio_lag=1']", "over names a setting twice"),
        ("over=['audio_lag=0,,1']", "over has 'audio_lag=0,,1'"),
    ],
)
def test_mistakes_are_named(over, message):
    with pytest.raises(ValueError, match=message):
        load_config("sweep", ["weights=w", "output=o", over], SweepConfig)
