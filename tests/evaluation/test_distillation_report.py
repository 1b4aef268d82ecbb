"""The report of a distilled model is 0 for its teacher, and 1 for what has learnt nothing."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from window_training import make_clips

from flowact.data.encoders import load_encoders
from flowact.evaluation.distillation import report_distillation, table
from flowact.pipeline import FlowActPipeline
from flowact.training.distill_settings import DistillationConfig, GuidanceConfig, StepsConfig
from flowact.training.window_model import WindowModel
from flowact.training.window_start import guided_copy, install_guided, install_model

# Two orders of summation in float32, squared, of what guidance changes.
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def folders(tiny_pipeline, tmp_path_factory):
    """Stage 2's weights, a student that has learnt nothing yet, and clips."""
    path = tmp_path_factory.mktemp("distilled")
    tiny_pipeline.save_pretrained(path / "stage2")
    student = FlowActPipeline.from_pretrained(path / "stage2")
    parts = (student.transformer, student.text_encoder, student.config.geometry)
    install_model(guided_copy(WindowModel(*parts)), student)
    install_guided(student, GuidanceConfig().stream(student.config.stream))
    student.save_pretrained(path / "stage3a")
    install_guided(student, StepsConfig().stream(student.config.stream))
    student.save_pretrained(path / "stage3b")
    encoders = load_encoders(tiny_config(), str(path / "stage2"), 0, torch.float32, "cpu")
    made_by = {kind: encoders.made_by(kind) for kind in ("latents", "features")}
    dim = tiny_config().transformer.audio_feature_dim
    make_clips(path / "data", [8, 9], encoders.config.geometry, made_by=made_by, feature_dim=dim)
    return path


def config_of(folders, student, teacher, **changes):
    return DistillationConfig(
        weights=str(folders / student),
        teacher=str(folders / teacher),
        folders=(str(folders / "data"),),
        output=str(folders / "report.json"),
        windows=2,
        device="cpu",
        **changes,
    )


def test_a_student_of_guidance_that_has_learnt_nothing(folders):
    config = config_of(folders, "stage3a", "stage2", scales=(1.0, 3.0))
    report = report_distillation(config)
    assert json.loads((folders / "report.json").read_text())["rows"] == report["rows"]
    rows = {(row["text"], row["audio"]): row for row in report["rows"]}
    assert rows[1.0, 1.0]["error"] < ROUNDING
    assert rows[1.0, 1.0]["share"] is None
    for pair in ((3.0, 3.0), (3.0, 1.0), (1.0, 3.0)):
        assert abs(rows[pair]["share"] - 1) < 1e-3
        assert rows[pair]["passes"] == (2 if pair == (3.0, 3.0) else 3)
    cells = [len(line.split()) for line in table(report).splitlines()]
    assert cells == [6, *(6 if row["share"] else 5 for row in rows.values())]


def test_the_teacher_tells_what_the_student_has_learnt(folders):
    """A student of guidance may be made to stream in one step."""
    pipeline = FlowActPipeline.from_pretrained(folders / "stage3a")
    install_guided(pipeline, GuidanceConfig(micro_steps=1).stream(pipeline.config.stream))
    pipeline.save_pretrained(folders / "one_step")
    rows = report_distillation(config_of(folders, "one_step", "stage2", scales=(2.0,)))["rows"]
    assert {"text", "audio"} <= rows[0].keys()
    rows = report_distillation(config_of(folders, "stage3b", "one_step"))["rows"]
    assert "segment" in rows[0]


def test_errors_are_told_apart(folders):
    """The first error is the student's, the second that of the teacher without guidance."""
    pipeline = FlowActPipeline.from_pretrained(folders / "stage3a")
    with torch.no_grad():  # weaker than its teacher everywhere
        pipeline.transformer.proj_out.weight.mul_(0.9)
        pipeline.transformer.proj_out.bias.mul_(0.9)
    pipeline.save_pretrained(folders / "weaker")
    rows = report_distillation(config_of(folders, "weaker", "stage2", scales=(1.0, 0.9)))["rows"]
    plain = {(row["text"], row["audio"]): row for row in rows}[1.0, 1.0]
    assert plain["error"] > ROUNDING
    assert plain["error_untaught"] < ROUNDING


def test_jumps_by_segment(folders):
    """Of a student that is the teacher still: one step lands where one step does, not four."""
    rows = report_distillation(config_of(folders, "stage3b", "stage3a"))["rows"]
    assert [row["segment"] for row in rows] == [0, 1, 2]
    assert all(abs(row["share"] - 1) < 1e-3 for row in rows)
    assert all(row["error"] > ROUNDING for row in rows)
    config = config_of(folders, "stage3b", "stage3a", teacher_steps=1)
    rows = report_distillation(config)["rows"]
    assert all(row["error"] < ROUNDING and row["share"] is None for row in rows)


def test_what_is_no_student_is_refused(folders):
    with pytest.raises(ValueError, match="the model is not distilled"):
        report_distillation(config_of(folders, "stage2", "stage2"))
    with pytest.raises(ValueError, match=r"make one step; weights=.* makes 4: if it is of"):
        report_distillation(config_of(folders, "stage3a", "stage3a"))
    config = config_of(folders, "stage3a", "stage2")
    with pytest.raises(ValueError, match="its folder does not exist"):
        report_distillation(replace(config, output=str(folders / "no" / "report.json")))
    with pytest.raises(ValueError, match="scales is"):
        replace(config, scales=())
