"""The images that a comparison shows, and what the runs predict on them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from analysis_material import SMALL
from page_parser import Page
from rich.console import Console

from truemask.analysis.compare import compare
from truemask.analysis.compare_samples import choose
from truemask.compose import compose_config
from truemask.metrics.confusion import headline, iou
from truemask.per_image import load_parts
from truemask.runs import Run
from truemask.training.fit import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    paths = []
    for rate in ("0.001", "0.1"):
        config = compose_config(
            ["experiment=textures/demo", *SMALL, f"optimizer.lr={rate}", f"runs={root}"]
        )
        paths.append(Path(train(config, console=Console(quiet=True)).run))
    return paths


def test_the_images_that_differ_most_are_chosen() -> None:
    scores = np.array([[0.9, 0.5, 0.7, 0.6, 0.5], [0.1, 0.5, 0.8, 0.4, 0.9]])
    chosen = choose(["a", "b", "c", "d", "e"], scores, "iou", most=3)
    assert [(item.kind, item.name) for item in chosen] == [
        ("gained", "a"), ("lost", "e"), ("gained", "d"), ("lost", "c"),
    ]  # fmt: skip
    assert chosen[0].scores == [0.9, 0.1]
    losses = choose(["a", "b", "c", "d", "e"], scores, "loss", most=1)
    assert [(item.kind, item.name) for item in losses] == [("gained", "e"), ("lost", "a")]
    assert choose(["a"], scores[:1, :1], "iou", most=3) == []
    assert choose(["a", "b"], scores[:, :2], "iou", most=0) == []


def test_predictions_are_made_again_and_fit_the_counts(trained, tmp_path: Path) -> None:
    found = compare(trained, tmp_path / "out")
    assert found.chosen
    assert {item.source for item in found.chosen} == {"weights"}
    assert found.picture_notes == []
    places = [group.runs[0] for group in found.groups]
    for number, place in enumerate(places):
        evaluation = load_parts(Run(trained[place]).per_image_path)["test"]
        own = dict(zip(evaluation.names, headline(iou(evaluation.matrices)), strict=True))
        for item in found.chosen:
            assert item.scores[number] == pytest.approx(own[item.name], abs=1e-6)
    page = Page(Path(found.page))
    assert not page.unbalanced
    assert "errors of" in page.source


def test_saved_pictures_stand_in_for_missing_weights(trained, tmp_path: Path) -> None:
    copies = [shutil.copytree(path, tmp_path / path.name) for path in trained]
    for path in copies:
        shutil.rmtree(path / "model")
    found = compare(copies, tmp_path / "out")
    assert {item.source for item in found.chosen} <= {"pictures", None}
    assert any(item.source == "pictures" for item in found.chosen)
    assert len(found.picture_notes) == 2
    assert "has no weights yet" in found.picture_notes[0]


def test_predictions_that_are_not_those_that_were_counted_are_not_shown(
    trained, tmp_path: Path
) -> None:
    copies = [shutil.copytree(path, tmp_path / path.name) for path in trained]
    swapped = copies[0] / "model"
    shutil.rmtree(swapped)
    shutil.copytree(copies[1] / "model", swapped)
    found = compare(copies, tmp_path / "out")
    assert any(f"{copies[0]} predicts otherwise" in note for note in found.picture_notes)


def test_no_picture_where_none_is_wanted(trained, tmp_path: Path) -> None:
    found = compare(trained, tmp_path / "out", pictures=0)
    assert found.chosen == []
    assert found.picture_notes == []


def test_nothing_is_fetched_for_a_picture(trained, tmp_path: Path) -> None:
    copies = [shutil.copytree(path, tmp_path / path.name) for path in trained]
    for path in copies:
        run = Run(path)
        config = run.config
        config["data"]["dataset"] = {
            "_target_": "truemask.datasets.shards.shards",
            "root": "https://example.invalid/shards",
        }
        run.write_config(config)
    notes = compare(copies, tmp_path / "out").picture_notes
    assert len(notes) == 2
    assert all("not fetched" in note for note in notes)
