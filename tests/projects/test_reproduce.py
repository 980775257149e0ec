"""Whole repetitions, small ones: what is trained, what is taken, what goes on, what is shown."""

import io
import json
import re
import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace

import pytest
from analysis_material import SMALL, trial
from page_parser import Page
from rich.console import Console

from truemask.analysis.matching import STOPPED
from truemask.cli import main
from truemask.errors import JobFailed, UsageError
from truemask.projects import reproduce as module
from truemask.projects import trials
from truemask.projects.project import Measure
from truemask.projects.reproduction import load
from truemask.results import TrainResult
from truemask.runs import list_runs
from truemask.training.fit import train


@pytest.fixture
def repeat(tiny, tmp_path, monkeypatch):
    """Repeat the tiny project, or one given; counts the trainings."""
    trained = []

    def counting(config, *, console, resume=None):
        trained.append((config["name"], resume is not None))
        return train(config, console=console, resume=resume)

    monkeypatch.setattr(trials, "train", counting)

    def repeat(project=None, **options):
        monkeypatch.setitem(module.PROJECTS, "tiny", project or tiny)
        trained.clear()
        options = {"out": tmp_path / "out", "console": Console(quiet=True), **options}
        return module.reproduce("tiny", **options), list(trained)

    return repeat


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    """Both trials of the tiny project, trained once for all tests."""
    out = tmp_path_factory.mktemp("trained")
    shop = trials.Workshop(runs=out / "runs", data=None, overrides=(), console=Console(quiet=True))
    for name, rate in (("slow", "1e-4"), ("fast", "1e-2")):
        shop.carry_out(trial(name, f"optimizer.lr={rate}"))
    return out


@pytest.fixture
def out(trained_folder, tmp_path):
    shutil.copytree(trained_folder, tmp_path / "out")
    for run in list_runs(tmp_path / "out"):
        config = run.config
        config["runs"] = str(tmp_path / "out" / "runs")
        run.write_config(config)
    return tmp_path / "out"


def test_a_first_call_trains_and_a_second_takes_what_is_there(repeat, tmp_path):
    result, trained = repeat()
    assert trained == [("slow", False), ("fast", False)]
    assert [item.status for item in result.trials] == ["trained", "trained"]
    assert result.complete
    (row,) = result.rows
    assert row.published == 0.5
    assert row.same.value > 0
    assert row.corrected.trial == "fast"
    for item in result.trials:
        assert f"/out/runs/{item.name}/" in item.run
    again, trained = repeat()
    assert trained == []
    assert [item.status for item in again.trials] == ["kept", "kept"]
    assert again.rows == result.rows
    assert load(tmp_path / "out" / "reproduction.json") == again


def test_a_run_of_other_settings_in_the_right_folder_is_not_taken(repeat, out):
    """What fooled a project: any earlier file of a similar name made a run skip its training."""
    (run,) = list_runs(out / "runs" / "fast")
    config = run.config
    config["optimizer"]["lr"] = 0.5
    run.write_config(config)
    result, trained = repeat()
    assert trained == [("fast", False)]
    assert len(list_runs(out / "runs" / "fast")) == 2
    assert next(item for item in result.trials if item.name == "fast").run != str(run.path)


def test_a_stopped_run_goes_on(repeat, out):
    (run,) = list_runs(out / "runs" / "slow")
    environment = run.environment
    environment["training"]["stopped"] = STOPPED
    run.write_environment(environment)
    result, trained = repeat(only=("slow",))
    assert trained == [("slow", True)]
    assert result.trials[0].status == "resumed"
    assert result.trials[0].run == str(run.path)


def test_a_run_without_results_goes_on_and_one_without_checkpoint_starts_anew(repeat, out):
    (run,) = list_runs(out / "runs" / "slow")
    (run.path / "results.json").unlink()
    _, trained = repeat(only=("slow",))
    assert trained == [("slow", True)]
    (run.path / "results.json").unlink()
    run.last_checkpoint.unlink()
    _, trained = repeat(only=("slow",))
    assert trained == [("slow", False)]


def test_after_ctrl_c_nothing_more_is_trained_and_the_page_says_so(
    repeat, tiny, tmp_path, monkeypatch
):
    def stopped(config, *, console, resume=None):
        return TrainResult(run="", parts={}, best_epoch=0, seconds=1.0, stopped=STOPPED)

    monkeypatch.setattr(trials, "train", stopped)
    result = repeat()[0]
    assert [item.status for item in result.trials] == ["stopped", "missing"]
    assert not result.complete
    page = Page(tmp_path / "out" / "reproduction.html")
    assert "2 of 2 trials have no finished run" in page.texts["head"]


class CtrlC(Console):
    """Ctrl-C is pressed `times` times as soon as the validation of step `step` is shown."""

    def __init__(self, step, times):
        super().__init__(file=io.StringIO())
        self.step, self.times = step, times

    def print(self, *objects, **options):
        super().print(*objects, **options)
        if re.match(rf"epoch .* step +{self.step} ", " ".join(map(str, objects))):
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


@pytest.fixture
def ctrl_c():
    """Ctrl-C counts, also where the tests run in the background, whose shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield CtrlC
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("times", [1, 2])
def test_a_trial_that_ctrl_c_ended_goes_on_from_its_last_checkpoint(
    repeat, ctrl_c, tmp_path, times
):
    """A first press ends it after the step at hand, a second at once."""
    options = {
        "only": ("slow",),
        "overrides": ("trainer.interval_unit=steps", "trainer.eval_interval=1"),
    }
    with pytest.raises((JobFailed, KeyboardInterrupt)) if times == 2 else nullcontext():
        repeat(**options, console=ctrl_c(2, times))
    (run,) = list_runs(tmp_path / "out")
    result, trained = repeat(**options)
    assert trained == [("slow", True)]
    assert result.trials[0].status == "resumed"
    assert result.trials[0].run == str(run.path)
    assert int(run.history[-1]["step"]) == 3


def test_a_trial_that_fails_leaves_the_page_of_the_others(repeat, out, monkeypatch):
    shutil.rmtree(out / "runs" / "fast")

    def failing(config, *, console, resume=None):
        raise UsageError("no memory")

    monkeypatch.setattr(trials, "train", failing)
    with pytest.raises(UsageError, match="no memory"):
        repeat()
    kept = load(out / "reproduction.json")
    assert [item.status for item in kept.trials] == ["kept", "missing"]


def test_only_trains_some_and_shows_the_rest(repeat, out):
    shutil.rmtree(out / "runs" / "slow")
    result, trained = repeat(only=("fast",))
    assert trained == []
    assert [item.status for item in result.trials] == ["missing", "kept"]


def test_finished_runs_from_elsewhere_are_taken_by_their_settings(repeat, trained_folder):
    (slow,) = list_runs(trained_folder / "runs" / "slow")
    result, trained = repeat(finished=[trained_folder], only=("slow",))
    assert trained == []
    assert [item.status for item in result.trials] == ["given", "given"]
    assert result.trials[0].run == str(slow.path)
    assert result.notes == []


def test_a_finished_run_that_matches_no_trial_is_said(repeat, tiny, make_run, trained_folder):
    stranger = make_run(name="stranger")
    near = make_run(*SMALL, "optimizer.lr=0.3", name="fast")
    broken = make_run(name="broken", finished=False)
    paths = [run.path for run in (stranger, near, broken)]
    result, _ = repeat(finished=[*paths, trained_folder])
    lines = dict(zip(("stranger", "fast", "broken"), result.notes, strict=True))
    assert lines["stranger"].endswith(
        "is not taken: no trial is called 'stranger', and none has its settings"
    )
    assert lines["fast"].endswith("unlike fast, optimizer.lr is 0.3, not 0.01")
    assert lines["broken"].endswith("its training did not come to its end")


def test_a_folder_without_runs_is_refused(repeat, tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        repeat(finished=[tmp_path])


def test_two_trials_that_are_one_training_share_its_run(repeat, tiny, out):
    twin = trial("twin", "optimizer.lr=1e-2", also=("test.iou",))
    result, trained = repeat(replace(tiny, trials=(*tiny.trials, twin)))
    assert trained == []
    assert result.trials[2].run == result.trials[1].run


def test_measures_are_made_once_and_not_twice(repeat, tiny, out):
    made = []

    def measure(run, console):
        made.append(run.path)
        run.write_evaluation("extra", run.results["test"], save=lambda path: path.touch())

    slow = replace(tiny.trials[0], measures=(Measure(name="extra", make=measure),))
    project = replace(tiny, trials=(slow, tiny.trials[1]))
    repeat(project)
    repeat(project)
    assert len(made) == 1


def test_overrides_reach_every_trial_and_forbid_comparing(repeat, tmp_path):
    result, _ = repeat(overrides=("trainer.max_steps=2",), only=("slow",))
    configs = [run.config for run in list_runs(tmp_path / "out")]
    assert [config["trainer"]["max_steps"] for config in configs] == [2]
    (row,) = result.rows
    assert row.same.doubt == "changed settings"
    assert row.ratio is None
    page = Page(tmp_path / "out" / "reproduction.html")
    assert "Changed in every trial: trainer.max_steps=2" in page.texts["head"]
    assert "(changed settings)" in page.texts["table"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"only": ("fats",)}, "has no trial 'fats'; did you mean 'fast'"),
        ({"overrides": ("name=x",)}, "'name=x': the project sets name itself"),
        ({"overrides": ("nonsense",)}, "cannot read 'nonsense'"),
        ({"overrides": ("optimizer.rate=1",)}, "optimizer"),
        ({"data": True}, "makes its images itself: leave --data out"),
    ],
)
def test_wrong_usage_is_said_before_any_training(repeat, tmp_path, options, said):
    if options.get("data"):
        options = {"data": tmp_path}
    with pytest.raises(UsageError, match=said):
        repeat(**options)


def test_an_unknown_project_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no project is called 'texture'; did you mean 'textures'"):
        module.reproduce("texture", out=tmp_path, console=Console(quiet=True))


def test_a_project_with_data_asks_for_it(tmp_path):
    with pytest.raises(UsageError, match=r"edges needs its data: give --data DIR with PASCAL VOC"):
        module.reproduce("edges", out=tmp_path, console=Console(quiet=True))
    with pytest.raises(UsageError, match="is no folder"):
        module.reproduce("edges", out=tmp_path, data=tmp_path / "gone", console=Console(quiet=True))


@pytest.mark.parametrize("place", [".", "runs/here"])
def test_nothing_is_written_into_the_data(tmp_path, place):
    (tmp_path / "VOC").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "VOC")
    for data in ("VOC", "link"):
        with pytest.raises(UsageError, match="into the data: give --out DIR outside of"):
            module.reproduce(
                "edges",
                out=tmp_path / "VOC" / place,
                data=tmp_path / data,
                console=Console(quiet=True),
            )
    assert list((tmp_path / "VOC").iterdir()) == []


def test_the_terminal_shows_the_table_and_where_the_page_is(tiny, out, monkeypatch, capsys):
    monkeypatch.setitem(module.PROJECTS, "tiny", tiny)
    shutil.rmtree(out / "runs" / "fast")
    words = ["reproduce", "tiny", "--out", str(out), "--only", "slow"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    value = load(out / "reproduction.json").rows[0].same.value
    assert re.search(rf"mean training loss of all steps.* 0\.5 .* {value:.4g} .* - ", shown)
    assert "1 of 2 trials not finished." in shown
    assert shown.splitlines()[-1] == f"Page: {out / 'reproduction.html'}"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["project"] == "tiny"


def test_the_page_is_one_sound_file(repeat, out):
    result, _ = repeat()
    page = Page(out / "reproduction.html")
    assert page.unbalanced == []
    assert [a for a in page.addresses if not a.startswith(("data:", "#"))] == []
    linked = {address[1:] for address in page.addresses if address.startswith("#")}
    assert linked == {found["id"] for tag, found in page.tags if tag == "section"}
    (row,) = (r for r in page.rows if len(r) == 6 and r[0].startswith("The trial slow"))
    assert row[1] == "0.5"
    assert row[2] == f"{result.rows[0].same.value:.4g}"
    assert row[3].startswith(f"{result.rows[0].ratio:.2f}")
    assert "Nothing: its runs are not there" in page.texts["trials"]
    assert json.loads((out / "reproduction.json").read_text())["project"] == "tiny"


def test_names_from_files_stay_text(repeat, tiny, out):
    hostile = "<script>hacked=1</script>"
    project = replace(tiny, title=hostile)
    (run,) = list_runs(out / "runs" / "slow")
    run.write_environment({**run.environment, "device": hostile})
    repeat(project)
    page = Page(out / "reproduction.html")
    assert page.count("script") == 1
    assert hostile in page.texts["head"]
    assert hostile in page.texts["trials"]
