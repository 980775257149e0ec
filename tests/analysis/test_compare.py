"""Runs side by side: what differs, which is best, and how sure that is."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_parser import Page

from truemask.analysis import compare as module
from truemask.analysis.compare import compare
from truemask.analysis.comparison import Comparison
from truemask.analysis.differences import (
    difference,
    judged_images,
    resampled_scores,
    student,
    welch,
)
from truemask.analysis.run_settings import short
from truemask.compose import compose_config
from truemask.errors import UsageError
from truemask.labels import LabelMap
from truemask.metrics.confusion import headline, iou
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
        monkeypatch.setattr(module, "write_page", lambda comparison, *, path: path.touch())


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


# How sure a difference is


def sampled(*groups: Sequence[Evaluation], metric="iou"):
    return tuple([resampled_scores(evaluation, metric) for evaluation in g] for g in groups)


def test_the_paired_interval_is_that_of_a_plain_bootstrap() -> None:
    best = evaluation(0.8, noise=0.04, own=1)
    other = evaluation(0.77, noise=0.04, own=2)

    def score(matrices: np.ndarray) -> float:
        return float(headline(iou(matrices.sum(0))))

    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(4000):
        chosen = rng.integers(0, 30, 30)
        drawn.append(score(other.matrices[chosen]) - score(best.matrices[chosen]))
    expected = np.quantile(drawn, [0.025, 0.975])
    scores = [score(best.matrices)], [score(other.matrices)]
    found = difference(*scores, metric="iou", samples=sampled([best], [other]))
    assert found.value == pytest.approx(scores[1][0] - scores[0][0])
    assert found.interval == pytest.approx(expected, abs=0.002)
    assert found.over == ("images",)
    # Without the pairing, what makes an image hard would drown the difference.
    alone = best.result().intervals["iou"]
    assert found.interval[1] - found.interval[0] < 0.6 * (alone[1] - alone[0])


def test_equal_runs_differ_by_nothing() -> None:
    same = evaluation(0.8)
    found = difference([0.8], [0.8], metric="iou", samples=sampled([same], [same]))
    assert (found.value, found.interval, found.certain) == (0.0, (0.0, 0.0), False)


def test_a_lower_loss_is_better() -> None:
    best, other = evaluation(0.8), evaluation(0.7)
    losses = [float(best.losses.mean())], [float(other.losses.mean())]
    found = difference(*losses, metric="loss", samples=sampled([best], [other], metric="loss"))
    assert found.value == pytest.approx(-0.1)
    assert found.interval == pytest.approx((-0.1, -0.1))


def test_the_seeds_interval_is_welch_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for sizes in ((2, 2), (3, 5), (10, 4), (30, 40)):
        one, other = (list(rng.normal(0, scale, n)) for n, scale in zip(sizes, (1, 3), strict=True))
        expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
        half = (expected.high - expected.low) / 2
        assert half * 0.999 <= welch(one, other) <= half * 1.03
    for freedom in (1, 1.3, 1.9, 2, 2.5, 7.7, 12, 29.5, 30, 45, 200, 1e9):
        exact = stats.t.ppf(0.975, freedom)
        assert exact * 0.9995 <= student(freedom) <= exact * 1.03
        if freedom == int(freedom) and freedom <= 30:
            assert student(freedom) == pytest.approx(exact, rel=1e-3)


def test_both_doubts_add_up_as_squares() -> None:
    best = [evaluation(0.8 + d, noise=0.05, own=i) for i, d in enumerate((0, 0.01, 0.02))]
    other = [evaluation(0.7 + d, noise=0.05, own=9 + i) for i, d in enumerate((0, 0.01, 0.02))]
    scores = [[float(headline(iou(e.matrices.sum(0)))) for e in group] for group in (best, other)]
    both = difference(*scores, metric="iou", samples=sampled(best, other))
    seeds = difference(*scores, metric="iou", samples=None)
    assert seeds.interval is not None
    assert both.interval is not None
    assert both.over == ("images", "seeds")
    assert seeds.over == ("seeds",)
    half = seeds.value - seeds.interval[0]
    assert half == pytest.approx(welch(*scores))
    assert both.value - both.interval[0] > half
    assert both.interval[1] - both.value > half


def test_equal_names_with_another_truth_are_other_images() -> None:
    one = evaluation(0.8)
    assert judged_images(one) == judged_images(evaluation(0.5))
    assert judged_images(one) != judged_images(evaluation(0.8, images=29))
    renamed = LabelMap(names=("rest", "stuff"), values={0: 0, 1: 1})
    assert judged_images(one) != judged_images(evaluation(0.8, labels=renamed))
    bigger = evaluation(0.8).matrices + np.array([[1, 0], [0, 0]])
    resized = Evaluation(
        names=one.names, matrices=bigger, losses=one.losses, attributes=one.attributes,
        labels=LABELS,
    )  # fmt: skip
    assert judged_images(one) != judged_images(resized)


# Which is best


def test_the_best_is_chosen_by_validation_and_told_of_the_test_part(make, tmp_path: Path) -> None:
    weak = make("optimizer.lr=0.1", validation=evaluation(0.8, seed=5), test=evaluation(0.70))
    good = make("optimizer.lr=0.2", validation=evaluation(0.9, seed=5), test=evaluation(0.75))
    found = compare([weak, good], tmp_path / "out")
    assert [group.name for group in found.groups] == ["lr=0.2", "lr=0.1"]
    assert (found.judged, found.images, found.metric) == ("test", 30, "iou")
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


def test_runs_on_different_images_are_not_paired(make, tmp_path: Path) -> None:
    one = make("optimizer.lr=0.1", validation=evaluation(0.9, seed=1))
    two = make("optimizer.lr=0.2", validation=evaluation(0.5, seed=2))
    found = compare([one, two], tmp_path / "out")
    assert found.images is None
    assert found.groups[1].difference is not None
    assert found.groups[1].difference.interval is None
    assert found.headline.startswith("Cannot tell lr=0.1")
    assert any("different validation images" in note for note in found.notes)


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
    assert "over images and seeds" in found.headline


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


# What differs


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
    assert len(compare([other, other], tmp_path / "out").runs) == 1


def test_a_comparison_overwrites_no_other(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [make(validation=evaluation(0.8)), make("seed=3", validation=evaluation(0.7))]
    pages = {compare(paths).page for _ in range(2)}
    assert len(pages) == 2
    assert all(Path(page).is_file() for page in pages)


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


def test_two_settings_make_a_grid_and_no_other_number(make, page, tmp_path: Path) -> None:
    both = [
        {"optimizer.lr": rate, "data.batch_size": size} for rate in (0.1, 0.2) for size in (2, 4)
    ]
    scores = [0.5, 0.6, 0.7, 0.8]
    two = write_sweep(tmp_path / "two", make, both, scores)
    seen = page(compare([two]))
    assert "grid" in seen.texts
    pictures = [found for tag, found in seen.tags if tag == "img" and found.get("class") == "day"]
    (drawn,) = (
        str(found["alt"])
        for found in pictures
        if str(found["alt"]).startswith("validation IoU by optimizer.lr and data.batch_size")
    )
    files = sorted(two.rglob("results.json"))
    rounded = [f"{Run(file.parent).results['validation'].iou:.3g}" for file in files]
    assert f"0.1: {rounded[0]}, {rounded[1]}; 0.2: {rounded[2]}, {rounded[3]}" in drawn
    one = write_sweep(tmp_path / "one", make, [{"optimizer.lr": r} for r in (0.1, 0.2)], [0.5, 0.6])
    assert "grid" not in page(compare([one])).texts
    line = [{"optimizer.lr": 10.0**-k, "data.batch_size": 2 + k} for k in range(5)]
    drawn_values = write_sweep(tmp_path / "line", make, line, [0.5, 0.6, 0.7, 0.8, 0.9])
    texts = page(compare([drawn_values])).texts
    assert "grid" not in texts  # five of twenty-five places
    assert "settings" in texts
