"""Charts: where their points stand, against the geometry worked out by hand."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truemask.report.confusion import confusion_rows, largest_confusions
from truemask.report.curves import draw_curves, last_epoch
from truemask.report.figures import Series, _axis, interval_bar, line_chart

values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def points(drawing: str) -> list[list[tuple[float, float]]]:
    """The polylines of a chart."""
    path = re.search(r'class="curve a" d="([^"]*)"', drawing)
    assert path is not None
    runs = [run for run in path[1].split("M") if run]
    return [[tuple(map(float, point.split(","))) for point in run.split()] for run in runs]


def chart(*series: float | None, x: list[int] | None = None, marked: int | None = None) -> str:
    line = Series(name="a", style="a", values=list(series))
    x = list(range(len(series))) if x is None else x
    return line_chart(title="t", x_name="epoch", x=x, series=[line], marked=marked)


def test_equal_steps_are_equally_far_apart():
    ((p0, p1, p2),) = points(chart(1.0, 2.0, 3.0, x=[0, 1, 3]))
    assert p2[0] - p0[0] == pytest.approx(3 * (p1[0] - p0[0]), abs=0.2)
    assert p1[1] - p2[1] == pytest.approx(p0[1] - p1[1], abs=0.2)
    assert p0[1] > p2[1], "greater values stand higher"


def test_a_missing_value_leaves_a_gap_and_a_lone_one_a_dot():
    drawing = chart(1.0, 2.0, None, 3.0, None, 4.0, 5.0)
    assert [len(run) for run in points(drawing)] == [2, 2]
    outside_of_probes = re.sub(r'<g class="probe">.*?</g>', "", drawing)
    assert outside_of_probes.count("<circle") == 1


def test_one_epoch_is_seen():
    assert re.sub(r'<g class="probe">.*?</g>', "", chart(0.5)).count("<circle") == 1


def test_no_values_draw_nothing():
    assert chart(None, None) == ""


def test_a_long_history_is_thinned_but_keeps_its_best_and_its_last():
    drawing = chart(*range(10_001), marked=4_999)
    probes = re.findall(r">epoch ([\d,]+) ·", drawing)
    assert len(probes) < 300
    assert "4,999" in probes
    assert probes[-1] == "10,000"


@given(st.lists(values, min_size=1, max_size=20))
def test_every_point_stands_inside_the_chart(series):
    for run in points(chart(*series)):
        assert all(40 <= x <= 360 and 20 <= y <= 200 for x, y in run)


@given(values, values)
def test_ticks_are_round_and_inside(a, b):
    low, high = min(a, b), max(a, b)
    axis = _axis(low, high, 0, 100, count=5)
    assert 1 <= len(axis.ticks) <= 7
    assert all(-0.01 <= axis(tick) <= 100.01 for tick in axis.ticks)
    if len(axis.ticks) > 1:
        step = f"{axis.ticks[1] - axis.ticks[0]:.3e}"
        assert step[:5] in ("1.000", "2.000", "5.000")


def test_an_interval_is_drawn_to_scale():
    drawing = interval_bar(0.5, (0.25, 1.0))
    (x1, x2) = re.search(r'class="span" x1="([\d.]+)" .*? x2="([\d.]+)"', drawing).groups()
    value = float(re.search(r'class="value" x1="([\d.]+)"', drawing)[1])
    left, right = float(x1), float(x2)
    assert (value - left) / (right - left) == pytest.approx(0.25 / 0.75, abs=0.01)
    assert "0.500, 95 % interval 0.250 to 1.000" in drawing
    assert interval_bar(None, None) == ""


def test_a_confusion_matrix_worked_by_hand():
    rows = confusion_rows([[90, 10, 0], [30, 60, 10], [0, 0, 0]], ["road", "car", "sky"])
    assert [[cell.share for cell in row.cells] for row in rows] == [
        [0.9, 0.1, 0.0],
        [0.3, 0.6, 0.1],
        [],
    ]
    assert [cell.text for cell in rows[0].cells] == ["90", "10", ""]
    assert rows[1].cells[0].title == "30.0 % of car is taken for road (30 pixels)"
    assert rows[1].cells[1].title == "60.0 % of car is found (60 pixels)"
    confused = [(c.truth, c.prediction, c.share) for c in largest_confusions(rows, most=2)]
    assert confused == [("car", "road", 0.3), ("road", "car", 0.1)]


def test_curves_count_epochs_from_one_and_mark_the_best():
    history = [{"epoch": str(e), "step": str(e), "train_loss": str(e)} for e in range(4)]
    (loss,) = draw_curves(history, best_step=2)
    assert "epoch 1 · training 0<" in loss.drawing
    assert loss.drawing.count('class="mark"') == 1
    assert last_epoch(history) == 4
    assert last_epoch([]) == 0
    (unmarked,) = draw_curves(history, best_step=None)
    assert 'class="mark"' not in unmarked.drawing


def test_several_validations_in_an_epoch_are_told_apart_by_their_steps():
    history = [
        {"epoch": "0", "step": str(s), "train_loss": "1", "validation_iou": "nan"} for s in (5, 9)
    ]
    (loss,) = draw_curves(history, best_step=None)
    assert "step 9 · training 1<" in loss.drawing
