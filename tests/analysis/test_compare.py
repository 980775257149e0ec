"""Runs side by side: what differs, which is best, and how sure that is."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_parser import Page

from truemask.analysis import compare as module
from truemask.analysis import comparison_charts
from truemask.analysis.compare import compare
from truemask.analysis.comparison import Comparison
from truemask.analysis.run_settings import short
from truemask.cli import main
from truemask.compose import compose_config
from truemask.errors import UsageError
from truemask.labels import LabelMap
from truemask.per_image import Evaluation, save_parts
from truemask.runs import Run

LABELS = LabelMap(names=("rest", "thing"), values={0: 0, 1: 1})


def evaluation(
    score: float,
    *,
    images: int = 30,
    noise: float = 0.0,
    own: int = 0,
    seed: int = 0,
    labels: LabelMap = LABELS,
) -> Evaluation:
    """A foreground IoU of about `score`; the images are as hard for every run, but for `noise`."""
    hard = np.random.default_rng(seed).normal(0, 0.1, images)
    noisy = np.random.default_rng(own + 1).normal(0, noise, images) if noise else np.zeros(images)
    sizes = np.random.default_rng(seed + 1).integers(500, 2000, images)
    matrices = np.zeros((images, 2, 2), dtype=np.int64)
    for i, size in enumerate(sizes):
        hits = round(size * min(max(score - hard[i] + noisy[i], 0.0), 1.0))
        matrices[i] = [[300, 0], [size - hits, hits]]
    return Evaluation(
        names=[f"image-{seed}-{i:03d}" for i in range(images)],
        matrices=matrices,
        losses=1 - score + hard,
        attributes=[{} for _ in range(images)],
        labels=labels,
    )


@pytest.fixture
def page() -> Callable[[Comparison], Page]:
    """A function that takes a comparison's page apart; without it, no page is drawn."""
    return lambda comparison: Page(Path(comparison.page))


@pytest.fixture(autouse=True)
def _draw_where_looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "page" not in request.fixturenames:
        monkeypatch.setattr(module, "write_page", lambda comparison, taken, *, path: path.touch())


@pytest.fixture
def make(tmp_path: Path):
    """A function that makes a finished run."""

    def make(
        *words: str,
        validation: Evaluation,
        test: Evaluation | None = None,
        folder: Path | None = None,
        name: str = "made",
        finished: bool = True,
        **config: Any,
    ) -> Path:
        run = Run.create(folder or tmp_path / "runs", experiment=name)
        run.write_config({**compose_config(["experiment=textures/demo", *words]), **config})
        run.write_labels(validation.labels)
        run.write_environment({"training": {"stopped": "done", "seconds": 7.5, "epochs": 2}})
        parts = {"validation": validation} | ({} if test is None else {"test": test})
        rows = [
            {"epoch": epoch, "step": 5 * (epoch + 1), "validation_iou": 0.3 + 0.1 * epoch}
            for epoch in range(2)
        ]
        run.write_history(rows)
        if finished:
            save_parts(run.per_image_path, parts)
            run.write_results({key: part.result(resamples=200) for key, part in parts.items()})
        return run.path

    return make


# Which is best


def test_the_best_is_chosen_by_validation_and_told_of_the_test_part(make, tmp_path: Path) -> None:
    weak = make("optimizer.lr=0.1", validation=evaluation(0.8, seed=5), test=evaluation(0.70))
    good = make("optimizer.lr=0.2", validation=evaluation(0.9, seed=5), test=evaluation(0.75))
    found = compare([weak, good], tmp_path / "out")
    assert [group.name for group in found.groups] == ["lr=0.2", "lr=0.1"]
    assert (found.judged, found.images.total, found.metric) == ("test", 30, "iou")
    assert found.headline.startswith("lr=0.2 is better than lr=0.1 by 0.0")
    assert "in test IoU" in found.headline
    assert "another seed" in found.headline
    gap = found.groups[1].difference
    assert gap is not None
    assert gap.value == pytest.approx(Run(weak).results["test"].iou - Run(good).results["test"].iou)
    assert gap.certain
    assert found.groups[0].difference is None


def test_what_cannot_be_told_apart_is_said_so(make, page, tmp_path: Path) -> None:
    one = make("optimizer.lr=0.1", validation=evaluation(0.801, noise=0.1, own=1))
    two = make("optimizer.lr=0.2", validation=evaluation(0.800, noise=0.1, own=2))
    found = compare([one, two], tmp_path / "out")
    assert found.headline.startswith("Cannot tell lr=0.")
    assert found.judged == "validation"
    text = page(found).texts["table"]
    assert "flatters the best" in text
    assert "cannot tell" in text


def test_a_test_part_that_contradicts_validation_is_said(make, tmp_path: Path) -> None:
    one = make("optimizer.lr=0.1", validation=evaluation(0.9), test=evaluation(0.6, seed=3))
    two = make("optimizer.lr=0.2", validation=evaluation(0.8), test=evaluation(0.7, seed=3))
    found = compare([one, two], tmp_path / "out")
    assert found.headline.startswith("lr=0.1 is best on validation, but lr=0.2 is better than it")


def test_runs_on_different_images_are_held_against_each_other_unpaired(
    make, tmp_path: Path
) -> None:
    one = make("optimizer.lr=0.1", validation=evaluation(0.9, seed=1))
    two = make("optimizer.lr=0.2", validation=evaluation(0.5, seed=2))
    found = compare([one, two], tmp_path / "out")
    assert (found.images.total, found.images.common) == (60, 0)
    gap = found.groups[1].difference
    assert gap.certain
    paired = make("optimizer.lr=0.2", validation=evaluation(0.5, seed=1))
    other = compare([one, paired], tmp_path / "paired").groups[1].difference
    assert np.diff(other.interval) < 0.7 * np.diff(gap.interval)
    assert any("0 of 60 are common" in note for note in found.notes)


def test_missing_counts_are_no_other_images(make, tmp_path: Path) -> None:
    one = make("optimizer.lr=0.1", validation=evaluation(0.9))
    two = make("optimizer.lr=0.2", validation=evaluation(0.5))
    Run(two).per_image_path.unlink()
    found = compare([one, two], tmp_path / "out")
    assert found.groups[1].difference.interval is None
    assert found.headline.startswith(f"Which is better cannot be said: {two} lacks the counts")
    assert f"{two} lacks the counts of its validation images" in found.notes[0]
    save_parts(Run(two).per_image_path, {"validation": evaluation(0.6)})
    assert f"{two} has other scores than" in compare([one, two], tmp_path / "out").notes[0]


def test_masks_that_differ_by_rounding_are_the_same_images(make, tmp_path: Path) -> None:
    def moved(pixels: int) -> Evaluation:
        whole = evaluation(0.5)
        matrices = whole.matrices.copy()
        matrices[:, 0, 0] -= pixels
        matrices[:, 1, 1] += pixels
        return Evaluation(
            names=whole.names, matrices=matrices, losses=whole.losses,
            attributes=whole.attributes, labels=LABELS,
        )  # fmt: skip

    one = make("optimizer.lr=0.1", validation=evaluation(0.9))
    for pixels, others in ((0, 0), (20, 30)):
        two = make("optimizer.lr=0.2", validation=moved(pixels))
        found = compare([one, two], tmp_path / "out")
        assert (found.images.common, found.images.other_truth) == (30, others)
        assert any("other true pixels" in note for note in found.notes) == (others > 0)
    rounded = evaluation(0.5).matrices * 1000
    rounded[:, 0, 0] -= 200
    rounded[:, 1, 1] += 200
    finer = [
        Evaluation(
            names=[f"{i:02d}" for i in range(30)], matrices=matrices, losses=np.zeros(30),
            attributes=[{}] * 30, labels=LABELS,
        )
        for matrices in (evaluation(0.9).matrices * 1000, rounded)
    ]  # fmt: skip
    paths = [make(f"optimizer.lr={i + 1}", validation=one) for i, one in enumerate(finer)]
    assert compare(paths, tmp_path / "out").images.other_truth == 0


def test_images_of_another_folder_are_known_by_their_truth(make, tmp_path: Path) -> None:
    there = evaluation(0.5)
    moved = replace(there, names=[f"val/{name}" for name in there.names])
    one = make("optimizer.lr=0.1", validation=evaluation(0.9))
    two = make("optimizer.lr=0.2", validation=moved)
    found = compare([one, two], tmp_path / "out")
    assert (found.images.total, found.images.common) == (30, 30)
    assert any("other names" in note for note in found.notes)
    same = make("optimizer.lr=0.2", validation=there)
    paired = compare([one, same], tmp_path / "out")
    assert paired.groups[1].difference == found.groups[1].difference


def test_other_classes_cannot_be_compared(make, tmp_path: Path) -> None:
    renamed = LabelMap(names=("rest", "stuff"), values={0: 0, 1: 1})
    paths = [
        make("optimizer.lr=0.1", "seed=1", validation=evaluation(0.9)),
        make("optimizer.lr=0.1", "seed=2", validation=evaluation(0.9)),
        make("optimizer.lr=0.2", "seed=1", validation=evaluation(0.5, labels=renamed)),
        make("optimizer.lr=0.2", "seed=2", validation=evaluation(0.6, labels=renamed)),
    ]
    found = compare(paths, tmp_path / "out")
    assert found.images is None
    assert found.groups[1].difference.interval is None
    assert "tells other classes apart (2: rest, stuff)" in found.notes[0]
    assert found.headline.startswith("Which is better cannot be said: ")
    assert "differ by" not in found.headline


def test_seeds_are_gathered(make, tmp_path: Path) -> None:
    scores = {"0.1": (0.80, 0.82, 0.84), "0.2": (0.60, 0.61, 0.65)}
    paths = [
        make(f"optimizer.lr={rate}", f"seed={seed}", validation=evaluation(score))
        for seed in range(3)
        for rate, values in scores.items()
        for score in values[seed : seed + 1]
    ]
    found = compare(paths, tmp_path / "out")
    assert found.keys == ["optimizer.lr", "seed"]
    assert found.repeats == ["seed"]
    assert [(group.name, group.settings) for group in found.groups] == [
        ("lr=0.1", {"optimizer.lr": 0.1}), ("lr=0.2", {"optimizer.lr": 0.2})
    ]  # fmt: skip
    assert [group.runs for group in found.groups] == [[0, 2, 4], [1, 3, 5]]
    own = [Run(path).results["validation"].iou for path in paths[::2]]
    assert found.groups[0].means["validation"] == pytest.approx(sum(own) / 3)
    assert found.groups[0].deviations["validation"] == pytest.approx(np.std(own, ddof=1))
    gap = found.groups[1].difference
    assert gap is not None
    assert gap.over == ("images", "seeds")
    assert "over 30 images and 3 seeds each)" in found.headline


def test_runs_of_one_group_alone_have_their_spread(make, tmp_path: Path) -> None:
    paths = [make(f"seed={seed}", validation=evaluation(0.8 + 0.01 * seed)) for seed in range(3)]
    found = compare(paths, tmp_path / "out")
    assert "over 3 runs" in found.headline
    assert "±" in found.headline


def test_the_loss_judges_where_all_were_chosen_by_the_same(make, tmp_path: Path) -> None:
    monitored = "trainer.monitor=validation_loss"
    one = make("optimizer.lr=0.1", monitored, validation=evaluation(0.7))
    two = make("optimizer.lr=0.2", monitored, validation=evaluation(0.8))
    three = make("loss=dice", monitored, validation=evaluation(0.8))
    found = compare([one, two], tmp_path / "out")
    assert found.metric == "loss"
    assert found.groups[0].name == "lr=0.2"
    assert "validation loss" in found.headline
    assert compare([one, two, three], tmp_path / "out").metric == "iou"


# Where it is better


def parted(shares: Sequence[Sequence[float]], *, own: int, images: int = 60) -> Evaluation:
    """Three classes; in cities "a" and "b" each is found to the shares of that city."""
    rng, noise = np.random.default_rng(0), np.random.default_rng(own)
    matrices = np.zeros((images, 3, 3), dtype=np.int64)
    for i in range(images):
        for k, size in enumerate(rng.integers(500, 2000, 3)):
            hits = round(size * min(1, max(0, shares[i % 2][k] + noise.normal(0, 0.02))))
            matrices[i, k, k] = hits
            matrices[i, k, (k + 1) % 3] = size - hits
    return Evaluation(
        names=[f"{i:03d}" for i in range(images)],
        matrices=matrices,
        losses=np.zeros(images),
        attributes=[{"city": "ab"[i % 2], "name": str(i)} for i in range(images)],
        labels=LabelMap(names=("x", "y", "z"), values={0: 0, 1: 1, 2: 2}),
    )


def test_where_it_is_better(make, page, tmp_path: Path) -> None:
    good = [[0.9, 0.9, 0.9], [0.9, 0.9, 0.9]]
    weak = [[0.9, 0.9, 0.9], [0.9, 0.9, 0.5]]
    paths = [
        make("optimizer.lr=0.1", validation=parted(good, own=1)),
        make("optimizer.lr=0.2", validation=parted(weak, own=2)),
    ]
    found = compare(paths, tmp_path / "out")
    first, second = found.detailed
    assert first.details.classes["z"].difference is None
    z, y = (second.details.classes[name].difference for name in "zy")
    assert z.certain
    assert z.value < -0.1
    assert not y.certain
    results = [Run(path).results["validation"] for path in paths]
    assert z.value == pytest.approx(results[1].iou_per_class["z"] - results[0].iou_per_class["z"])
    assert list(second.details.subgroups) == ["city"]  # 60 names are no subgroups
    cities = second.details.subgroups["city"]
    assert cities["a"].images == 30
    assert [cities[name].difference.certain for name in "ab"] == [False, True]
    assert cities["b"].value == pytest.approx(results[1].subgroups["city"]["b"].iou)
    assert {int(chosen.name) % 2 for chosen in found.chosen if chosen.kind == "gained"} == {1}
    assert found.headline.endswith("; better in all 3 classes, surely in 2.")  # x: z taken for it
    seen = page(found)
    assert not seen.unbalanced
    assert "city" in seen.source
    (row,) = (row for row in seen.rows if row and row[0] == "z")
    assert "worse" in row


def test_a_run_against_itself_or_its_copy_shows_no_difference(make, tmp_path: Path) -> None:
    run = make("optimizer.lr=0.1", validation=evaluation(0.8), test=evaluation(0.7))
    copied = shutil.copytree(run, tmp_path / "copied")
    for other in (run, copied):
        found = compare([run, other], tmp_path / "out")
        assert found.headline.startswith("No difference: ")
        assert "on every one of 30 test images" in found.headline
        gap = found.groups[1].difference
        assert (gap.value, gap.interval, gap.certain) == (0.0, (0.0, 0.0), False)
        details = found.groups[1].details
        assert all(score.difference.identical for score in details.classes.values())


def test_the_page_of_a_run_against_itself_on_one_image(make, page, tmp_path: Path) -> None:
    one = make("optimizer.lr=0.1", validation=evaluation(0.8, images=1))
    found = compare([one, one], tmp_path / "out")
    assert found.headline.startswith("No difference: ")
    assert "on the only validation image" in found.headline
    assert "no difference" in page(found).texts["table"]


def test_small_differences_are_told_in_digits_that_show_them(make, tmp_path: Path) -> None:
    paths = [
        make(f"optimizer.lr={i}", validation=evaluation(score, images=300))
        for i, score in ((1, 0.8), (2, 0.8002))
    ]
    headline = compare(paths, tmp_path / "out").headline
    value, low, high = map(float, re.search(r"by (\S+) \[(\S+), (\S+)\]", headline).groups())
    assert 0 < low < value < high < 0.0005


def test_among_many_what_is_certain_alone_may_not_be_certain(make, tmp_path: Path) -> None:
    best = make("optimizer.lr=0", validation=evaluation(0.8, noise=0.05))
    others = [
        make(f"optimizer.lr={i}", validation=evaluation(0.785, noise=0.05, own=i))
        for i in range(1, 9)
    ]
    alone = sum(
        compare([best, other], tmp_path / "out").groups[1].difference.certain for other in others
    )
    found = compare([best, *others], tmp_path / "out")
    together = sum(group.difference.certain for group in found.groups[1:])
    assert together < alone
    assert f"is surely better than {together or 'none'} of the 8 others" in found.headline
    assert len(found.detailed) == 6


# What differs


def test_sweeps_of_seeds_are_a_group_each(make, tmp_path: Path) -> None:
    sweeps = []
    for name, score in (("one", 0.7), ("two", 0.8)):
        folder = write_sweep(
            tmp_path / name, make, [{"seed": 1}, {"seed": 2}, {"seed": 3}],
            [score, score + 0.01, score + 0.02],
        )  # fmt: skip
        for number, file in enumerate(sorted(folder.rglob("config.yaml"))):
            run = Run(file.parent)
            config = run.config
            config["optimizer"]["lr"] = 0.1 if name == "one" else 0.2
            # As a class weight that each training works out of its own split.
            run.write_config({**config, "loss": {"weight": [number, 1.0]}})
        sweeps.append(folder)
    found = compare(sweeps, tmp_path / "out")
    assert [group.name for group in found.groups] == ["lr=0.2", "lr=0.1"]
    assert [len(group.runs) for group in found.groups] == [3, 3]
    assert found.groups[1].difference.over == ("images", "seeds")


def test_only_what_differs_is_listed(make, tmp_path: Path) -> None:
    same = evaluation(0.8)
    one = make("optimizer.lr=0.1", "data.num_workers=1", validation=same)
    two = make("optimizer.lr=0.2", "data.num_workers=2", "trainer.max_steps=7", validation=same)
    found = compare([one, two], tmp_path / "out")
    assert found.keys == ["optimizer.lr", "trainer.max_steps"]
    assert [run.settings for run in found.runs] == [
        {"optimizer.lr": 0.1, "trainer.max_steps": 1000},
        {"optimizer.lr": 0.2, "trainer.max_steps": 7},
    ]
    assert [run.name for run in found.runs] == ["lr=0.1, max_steps=1000", "lr=0.2, max_steps=7"]


def test_names_tell_runs_apart(make, tmp_path: Path) -> None:
    same = evaluation(0.8)
    twice = [make(validation=same, name=name) for name in ("made", "made")]
    found = compare(twice, tmp_path / "out")
    assert found.keys == []
    assert [run.name for run in found.runs] == ["/".join(path.parts[-2:]) for path in twice]
    assert len(found.groups) == 2  # nothing says that they are repetitions
    many = [
        make("experiment=textures/demo", validation=same, name="first"),
        make(
            "model=unet", "optimizer.lr=0.3", "data.batch_size=3", "seed=4",
            validation=same, name="second",
        ),
    ]  # fmt: skip
    for path, name in zip(many, ("first", "second"), strict=True):
        run = Run(path)
        run.write_config({**run.config, "name": name})
    assert [run.name for run in compare(many, tmp_path / "out").runs] == ["first", "second"]
    assert short({"a.lr": 0.1, "b.lr": 1e-5, "c": None}) == "a.lr=0.1, b.lr=1e-05, c=null"
    assert short({"x": [1, 2], "y": True}) == "x=[1, 2], y=true"


def write_sweep(
    folder: Path, make, jobs: Sequence[dict[str, Any]], scores: Sequence[float]
) -> Path:
    (folder / "jobs").mkdir(parents=True)
    (folder / "sweep.json").write_text("{}")
    for number, (settings, score) in enumerate(zip(jobs, scores, strict=True)):
        job = folder / "jobs" / f"{number:03d}"
        job.mkdir()
        (job / "job.json").write_text(json.dumps({"settings": settings}))
        words = [f"{key}={value}" for key, value in settings.items()]
        make(*words, validation=evaluation(score), folder=job)
    return folder


def test_of_a_sweep_s_job_the_newest_run_counts(make, tmp_path: Path) -> None:
    jobs = [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}, {"optimizer.lr": 0.3}]
    sweep = write_sweep(tmp_path / "sweep", make, jobs, [0.7, 0.8, 0.6])
    newer = make("optimizer.lr=0.1", validation=evaluation(0.9), folder=sweep / "jobs" / "000")
    unfinished = make(validation=evaluation(0.9), folder=sweep / "jobs" / "002", finished=False)
    found = compare([sweep], notes=["job 3 (lr=9): failed: no"])
    assert [run.run for run in found.runs] == [
        str(newer), *(str(run.run) for run in found.runs[1:])
    ]  # fmt: skip
    assert [group.name for group in found.groups] == ["lr=0.1", "lr=0.2"]
    assert found.notes == ["job 3 (lr=9): failed: no"]
    assert [str(unfinished) in note for note in compare([sweep]).notes] == [True]
    assert found.page == str(sweep / "comparison.html")
    written = json.loads((sweep / "comparison.json").read_text())
    assert written == json.loads(json.dumps({**found.to_json(), "notes": written["notes"]}))


def test_what_a_training_settled_by_itself_is_no_setting_of_a_sweep(make, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", make, [{"seed": 1}, {"seed": 2}], [0.7, 0.8])
    for number, path in enumerate(sorted(sweep.rglob("config.yaml"))):
        run = Run(path.parent)
        run.write_config({**run.config, "loss": {"weight": [number, 1.0]}})
    found = compare([sweep])
    assert found.keys == ["seed"]
    assert len(found.groups) == 1


def test_what_cannot_be_compared_is_named(make, tmp_path: Path) -> None:
    run = make(validation=evaluation(0.8), finished=False)
    with pytest.raises(UsageError, match="has no results yet"):
        compare([run], tmp_path / "out")
    with pytest.raises(UsageError, match="does not exist"):
        compare([tmp_path / "nothing"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is not a run"):
        compare([tmp_path / "empty"], tmp_path / "out")
    other = make(validation=evaluation(0.8))
    assert "nothing to compare" in compare([other], tmp_path / "out").headline


def test_a_comparison_overwrites_no_other(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [make(validation=evaluation(0.8)), make("seed=3", validation=evaluation(0.7))]
    pages = {compare(paths).page for _ in range(2)}
    assert len(pages) == 2
    assert all(Path(page).is_file() for page in pages)


def test_what_no_comparison_made_is_not_overwritten(
    make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(make(validation=evaluation(0.8))), str(make(validation=evaluation(0.7)))]
    out = tmp_path / "mine"
    out.mkdir()
    for name, text in (("comparison.html", "my page"), ("comparison.json", '{"mine": 1}')):
        (out / name).write_text(text)
        assert main(["compare", *paths, "--out", str(out)]) == 2
        assert f"{name} is in the way" in capsys.readouterr().err
        assert (out / name).read_text() == text
        (out / name).unlink()
    for _ in range(2):
        assert main(["compare", *paths, "--out", str(out)]) == 0


def test_a_test_part_that_only_some_runs_have(make, page, tmp_path: Path) -> None:
    one = make("optimizer.lr=0.1", validation=evaluation(0.9), test=evaluation(0.6, seed=3))
    two = make("optimizer.lr=0.2", validation=evaluation(0.8))
    for place, paths in enumerate(([one, two], [two, one])):
        found = compare(paths, tmp_path / str(place))
        assert found.judged == "validation"
        assert "test –" in page(found).source
        assert "flatters the best" in page(found).texts["table"]


# The page


def test_the_page_is_whole_works_offline_and_escapes(make, page, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    one = make("optimizer.lr=0.1", validation=evaluation(0.9), test=evaluation(0.8), note=evil)
    two = make("optimizer.lr=0.2", validation=evaluation(0.8), test=evaluation(0.7), note="plain")
    found = compare([one, two], tmp_path / "out", notes=[evil])
    assert "note" in found.keys
    seen = page(found)
    assert not seen.unbalanced
    assert all(address.startswith(("#", "data:")) for address in seen.addresses)
    assert evil not in seen.source
    assert evil in seen.texts["runs"]
    assert evil in seen.texts["head"]
    assert found.headline in seen.texts["head"]
    (row,) = (row for row in seen.rows if row and row[0] == "0.1")
    assert "best on validation" in row


def test_names_may_hold_what_charts_take_for_formulas(make, page, tmp_path: Path) -> None:
    paths = [
        make(validation=evaluation(0.8), note=note, name="x") for note in ("_a$b$^_{", "$\\frac$")
    ]
    assert "scores" in page(compare(paths, tmp_path / "out")).texts


def drawn(comparison: Comparison) -> dict[str, str]:
    """Title -> what the chart of all combinations, or of each setting, shows in words."""
    found = {"grid": comparison_charts._grid, "settings": comparison_charts._against}
    made = {title: make(comparison) for title, make in found.items()}
    return {title: chart.said for title, chart in made.items() if chart is not None}


def test_two_settings_make_a_grid_and_no_other_number(make, tmp_path: Path) -> None:
    both = [
        {"optimizer.lr": rate, "data.batch_size": size} for rate in (0.1, 0.2) for size in (2, 4)
    ]
    two = write_sweep(tmp_path / "two", make, both, [0.5, 0.6, 0.7, 0.8])
    grid = drawn(compare([two]))["grid"]
    assert grid.startswith("validation IoU by optimizer.lr and data.batch_size")
    files = sorted(two.rglob("results.json"))
    rounded = [f"{Run(file.parent).results['validation'].iou:.3g}" for file in files]
    assert f"0.1: {rounded[0]}, {rounded[1]}; 0.2: {rounded[2]}, {rounded[3]}" in grid
    one = write_sweep(tmp_path / "one", make, [{"optimizer.lr": r} for r in (0.1, 0.2)], [0.5, 0.6])
    assert drawn(compare([one])) == {}
    line = [{"optimizer.lr": 10.0**-k, "data.batch_size": 2 + k} for k in range(5)]
    scattered = write_sweep(tmp_path / "line", make, line, [0.5, 0.6, 0.7, 0.8, 0.9])
    assert set(drawn(compare([scattered]))) == {"settings"}  # five of twenty-five places
