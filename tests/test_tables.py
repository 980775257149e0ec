"""What the terminal shows: every number, its interval, and names as they are."""

import pytest

from truemask.errors import counted
from truemask.projects.reproduction import Cell, Reproduction, Row, TrialReport
from truemask.tables import print_reproduction


def row(title: str, published: float | None, same: Cell | None, corrected: Cell | None) -> Row:
    return Row(
        trial="a", title=title, quantity="test.iou", published=published, same=same,
        corrected=corrected, bar=None,
    )  # fmt: skip


def test_a_published_figure_stands_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    ours = Cell(value=0.512345, interval=(0.5, 0.53), trial="a")
    mended = Cell(value=0.75, interval=None, trial="b", doubt="miniature")
    trials = [
        TrialReport(name=name, title="", experiment="", column="published", status=status, run=run)
        for name, status, run in (
            ("a", "trained", "r"), ("b", "stopped", None), ("c", "missing", None),
        )
    ]  # fmt: skip
    print_reproduction(
        Reproduction(
            project="p", title="Streets", miniature=False, overrides=[], trials=trials,
            rows=[row("Plain [a]", 0.49, ours, mended), row("Plain [a]", None, None, None)],
            figures=[], notes=[], page="p.html",
        )
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Streets"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["Plain [a]", "", "", ""],
        ["test IoU", "0.49", "0.5123  [0.5, 0.53]", "0.75  (miniature)"],
        ["test IoU", "-", "-", "-"],
    ]
    assert lines[-2:] == ["2 of 3 trials not finished.", "b was stopped: the same command goes on."]


def test_one_thing_is_no_plural() -> None:
    assert [counted(n, "pixel") for n in (0, 1, 2)] == ["0 pixels", "1 pixel", "2 pixels"]
    assert counted(12345, "image") == "12,345 images"
