"""Rows, ratios and bars; what must not be compared is not."""

import json

import pytest
from analysis_material import trial

from truemask.errors import UsageError
from truemask.projects.project import Project
from truemask.projects.reproduction import Cell, Reproduction, Row, TrialReport, load, save
from truemask.projects.table import doubt, make_rows, report_trial
from truemask.projects.trials import Carried


def row(published=0.5, value=0.55, bar=0.15, doubt=""):
    cell = None if value is None else Cell(value=value, interval=None, trial="a", doubt=doubt)
    return Row(
        trial="a", title="A", quantity="running_loss", published=published, same=cell,
        corrected=None, bar=bar,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "ratio", "within"),
    [(0.55, 1.1, True), (0.45, 0.9, True), (0.58, 1.16, False), (0.42, 0.84, False)],
)
def test_a_bar_holds_to_both_sides(value, ratio, within):
    found = row(value=value)
    assert found.ratio == pytest.approx(ratio)
    assert found.within is within


@pytest.mark.parametrize(
    "found", [row(published=None), row(value=None), row(doubt="miniature"), row(published=0.0)]
)
def test_what_cannot_be_compared_has_no_ratio(found):
    assert found.ratio is None
    assert found.within is None


def test_without_a_bar_there_is_a_ratio_and_no_verdict():
    assert row(bar=None).ratio == pytest.approx(1.1)
    assert row(bar=None).within is None


def test_why_a_run_is_not_compared(make_run):
    run = make_run(images=800)
    known = trial("a", images=810)
    same = {"miniature": False, "overrides": ()}
    assert doubt(known, run, **same) == ""
    assert doubt(trial("a", images=2039), run, **same) == "800 training images"
    assert doubt(trial("a"), run, **same) == ""
    assert doubt(known, run, miniature=True, overrides=()) == "miniature"
    harmless = ("seed=3", "data.num_workers=2", "trainer.accelerator=cpu")
    assert doubt(known, run, miniature=False, overrides=harmless) == ""
    changed = ("trainer.max_epochs=2",)
    assert doubt(known, run, miniature=False, overrides=changed) == "changed settings"
    (run.path / "environment.json").write_text("{}")
    assert doubt(known, run, **same) == "unknown data"


@pytest.fixture
def project():
    return Project(
        name="p", title="P", text=("t",), figures=(),
        trials=(
            trial(
                "a", published={"running_loss": 0.4, "test.iou": 0.9}, bars={"running_loss": 0.1}
            ),
            trial("b", also=("test.iou",)),
            trial("c", column="corrected", of="a", also=("test.mean_iou",)),
            trial("d", column="corrected", also=("test.iou",)),
        ),
    )  # fmt: skip


def carried(project, **runs):
    return {
        trial.name: Carried(
            trial=trial,
            run=runs.get(trial.name),
            status="kept" if trial.name in runs else "missing",
        )
        for trial in project.trials
    }


def test_rows_stand_beside_what_mends_them(project, make_run):
    one, other = make_run(), make_run(history=[(10, 0.2)])
    rows = make_rows(project, carried(project, a=one, c=other, d=other), doubts={"c": "miniature"})
    assert [(r.trial, r.quantity) for r in rows] == [
        ("a", "running_loss"), ("a", "test.iou"), ("a", "test.mean_iou"), ("b", "test.iou"),
        ("d", "test.iou"),
    ]  # fmt: skip
    first, second, third, missing, alone = rows
    assert first.same.value == pytest.approx(0.4)
    assert first.within is True
    assert first.corrected.value == pytest.approx(0.2)
    assert first.corrected.doubt == "miniature"
    assert second.bar is None
    assert second.same.interval is not None
    assert third.published is None
    assert missing.same is None
    assert alone.same is None
    assert alone.corrected is not None


def test_a_trial_is_reported_with_what_its_run_says(project, make_run):
    run = make_run()
    report = report_trial(carried(project, a=run)["a"], doubt="")
    assert report.device == "CPU (test)"
    assert (report.seconds, report.images) == (12.5, 800)
    assert report.experiment.startswith("experiment=textures/demo data.dataset.size=16")
    nothing = report_trial(carried(project)["b"], doubt="")
    assert (nothing.run, nothing.device, nothing.status) == (None, None, "missing")


def test_json_goes_there_and_back(project, make_run, tmp_path):
    found = carried(project, a=make_run(), d=make_run())
    result = Reproduction(
        project="p",
        title="P",
        miniature=False,
        overrides=["seed=1"],
        trials=[report_trial(item, doubt="") for item in found.values()],
        rows=make_rows(project, found, doubts={}),
        figures=[],
        notes=["n"],
        page="p.html",
    )
    save(result, tmp_path / "r.json")
    assert load(tmp_path / "r.json") == result
    plain = json.loads((tmp_path / "r.json").read_text())
    assert plain["rows"][0]["within"] is True
    assert plain["rows"][0]["ratio"] == pytest.approx(1.0)
    assert isinstance(result.trials[0], TrialReport)
    assert not result.complete


@pytest.mark.parametrize("content", ["[]", "{}", '{"rows": 1}'])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UsageError, match="no reproduction"):
        load(tmp_path / "r.json")
