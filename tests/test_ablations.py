"""What rows share is one, what they differ in is told, and what is done is not done again."""

import json
from pathlib import Path

import pytest
from PIL import Image

from flowact.ablations import METRICS, ROWS, AblateConfig, ablate

SHORT = {"clips": 1, "seconds": 2.0}


@pytest.fixture
def weights(tmp_path):
    """``weights(name)``: a folder of weights, as far as rows look into it."""

    def make(name, index="{}"):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model_index.json").write_text(index)
        return str(folder)

    return make


@pytest.fixture
def runs(monkeypatch):
    """The scripts that rows run, with their words; each leaves the files that rows go on with."""
    done = []

    def run(script, words, _launch=None):
        given = dict(word.split("=", 1) for word in words)
        done.append((script, given))
        if script == "export.py":
            Path(given["output"]).mkdir()
        if script == "evaluate.py":
            Path(given["output"]).write_text(json.dumps(report(1 + len(done) / 10)))

    monkeypatch.setattr("flowact.ablations.run_script", run)
    return done


def report(mean, micro_steps=1):
    scores = {
        name: {"mean": mean, "low": mean - 0.2, "high": mean + 0.1, "n": 3} for name in METRICS
    }
    del scores["seam_change"]  # not all are defined for all videos
    names = "refine_every", "audio_lag", "long_term_stride"
    stream = {"micro_steps": micro_steps, "shift": 2.0, "refine_level": 0.3, "guidance": 1.0}
    stream |= dict.fromkeys(names, 1) | dict.fromkeys(("text_scale", "audio_scale"), 2.0)
    stream |= {"audio_guidance": None, "update": "euler", "memory": []}
    return {"scores": scores, "made_by": {"streamed": {"stream": stream}}}


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_shipped_weights_need_no_demo(weights, runs, tmp_path):
    shipped, output = weights("shipped"), tmp_path / "out"
    config = {"row": "stream", "shipped": shipped, "output": str(output), **SHORT}
    text = ablate(AblateConfig(**config))
    assert [script for script, _ in runs] == ["evaluate.py"] * len(runs)
    assert {given["weights"] for _, given in runs} == {shipped}
    assert "[reference,short_term]" in {given.get("stream.memory") for _, given in runs}
    heads, _, first, *others = cells(text)
    assert heads[:3] == ["", "trained for it", "`nfe`"]
    assert first[:4] == ["shipped, all parts", "", "3", "1.100 (0.900 to 1.200)"]
    assert first[-1] == ""
    assert [row[0] for row in others] == [r.says for r in ROWS.values() if r.weights == "shipped"][
        1:
    ]
    assert (output / "table.md").read_text() == text
    assert Image.open(output / "ablations.png").width > 1000

    # What is done is not done again; other actors, and other weights in their place, are refused.
    again = len(runs)
    assert ablate(AblateConfig(**config)) == text
    assert ablate(AblateConfig(row="none", output=str(output))) == text
    assert len(runs) == again
    with pytest.raises(ValueError, match=r"out was made with seconds 2\.0; name another output"):
        ablate(AblateConfig(**config | {"seconds": 3.0}))
    weights("shipped", '{"trained": true}')
    with pytest.raises(
        ValueError, match=r"out/shipped was made with weights_are \w+; name another"
    ):
        ablate(AblateConfig(**config))


def test_rows_may_be_trained_otherwise_and_say_how(weights, runs, tmp_path):
    demo, output = tmp_path / "demo", tmp_path / "out"
    for stage in ("stage1a", "stage2a", "stage3a", "stage3b"):
        weights(f"demo/{stage}.weights")
    for name in ("data-b", "data-a"):
        (demo / name).mkdir()
    shared = {"demo": str(demo), "output": str(output), **SHORT}
    ablate(AblateConfig(row="baseline", steps=20, **shared))
    ablate(AblateConfig(row="rollouts", steps=40, **shared))
    config = {"row": "true_memory", "steps": 30, "begun": "stage2a", "data": ("x", "y"), **shared}
    text = ablate(AblateConfig(**config))
    assert [row[:2] for row in cells(text)[2:]] == [
        ["stage 2 in few steps", "20 steps on stage1a"],
        ["the same without generated memory", "30 steps on stage2a"],
        ["distribution matching in few steps", "40 steps on stage3b"],
    ]
    baseline, rollouts, true_memory = (given for script, given in runs if script == "train.py")
    assert baseline["audio_motion.folders"] == f"[{demo / 'data-a'},{demo / 'data-b'}]"
    assert baseline["weights"] == str(demo / "stage1a.weights")
    assert rollouts["dmd.teacher"] == str(demo / "stage3a.weights")
    assert true_memory["audio_motion.folders"] == "[x,y]"
    streamed = [given["weights"] for script, given in runs if script == "evaluate.py"]
    assert streamed == [
        str(output / r / "weights") for r in ("baseline", "rollouts", "true_memory")
    ]
    with pytest.raises(ValueError, match="true_memory was made with steps 30; name another output"):
        ablate(AblateConfig(**config | {"steps": 31}))


def test_what_is_missing_is_named(weights, tmp_path):
    output = {"output": str(tmp_path / "out"), **SHORT}
    for row in ("all", "teacher", "baseline"):
        with pytest.raises(ValueError, match=f"demo is missing, and row={row} is of its stages"):
            AblateConfig(row=row, **output)
    with pytest.raises(ValueError, match="row is nothing; choose all, stream, none, or among"):
        AblateConfig(row="nothing", **output)
    with pytest.raises(ValueError, match="shipped=no: there is no such folder"):
        ablate(AblateConfig(row="shipped", shipped="no", **output))
    demo = str(tmp_path / "demo")
    with pytest.raises(ValueError, match=r"demo=.*has no stage2\.weights"):
        ablate(AblateConfig(row="teacher", demo=demo, **output))
    weights("demo/stage1a.weights")
    with pytest.raises(ValueError, match=r"has no data-\*; give data="):
        ablate(AblateConfig(row="baseline", demo=demo, **output))
