"""The fault benchmark counts rightly, covers every row, and a fast part of it is found."""

import json

import pytest
from benchmarks.faults import table
from benchmarks.faults.__main__ import cases, line, main
from benchmarks.faults.case import Case, Control, Fault, Outcome, Published, from_json, run, tally

from truemask.checks.finding import Finding


def finding(code: str, level: str = "error") -> Finding:
    return Finding(code=code, name="n", level=level, message="m.", remedy="r.")  # type: ignore[arg-type]


def fault(code: str = "TM401", **changes: object) -> Fault:
    values = {
        "row": 17, "code": code, "name": "nothing", "strength": "weak", "base": "functions",
        "prepare": lambda: lambda: [finding("TM401")], **changes,
    }  # fmt: skip
    return Fault(**values)  # type: ignore[arg-type]


def control(*found: Finding, real: tuple[str, ...] = ()) -> Control:
    return Control(kind="loss", name="x", prepare=lambda: lambda: list(found), real=real)


@pytest.fixture(scope="module")
def everything() -> list[Case]:
    return list(cases())


def test_every_row_and_code_has_a_realistic_fault(everything: list[Case]) -> None:
    faults = [case for case in everything if isinstance(case, Fault)]
    # Without the real images some cases fall away, but no row may.
    assert {case.row for case in faults if case.strength != "weak"} == set(range(1, 40))
    codes = {case.code for case in faults if case.strength == "realistic"}
    assert len({case.title for case in everything}) == len(everything)
    promised = {
        *range(101, 117), *range(201, 206), *range(301, 305), *range(401, 410),
        *range(501, 512), *range(601, 616), 701,
    }  # fmt: skip
    assert codes >= {f"TM{number}" for number in promised}


def test_there_are_enough_controls_and_all_projects(everything: list[Case]) -> None:
    assert sum(isinstance(case, Control) for case in everything) >= 30
    projects = {case.project for case in everything if isinstance(case, Published)}
    assert projects == {"edges", "driving", "cityscapes", "benchmarks", "textures"}


def test_a_fault_is_found_by_its_code_or_a_named_sibling_only() -> None:
    assert run(fault("TM401")).good
    assert not run(fault("TM402")).good
    assert run(fault("TM402", also=("TM401",))).good


def test_an_error_in_a_check_counts_as_missed() -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("no")

    outcome = run(fault(prepare=lambda: broken))
    assert not outcome.good
    assert "ZeroDivisionError" in outcome.trouble
    assert "RAISED" in line(outcome)


@pytest.mark.parametrize(
    ("found", "real", "good"),
    [
        ((), (), True),
        ((finding("TM508", "note"),), (), True),
        ((finding("TM203", "warning"),), ("TM203",), True),
        ((finding("TM203", "warning"),), (), False),
        ((finding("TM203", "warning"), finding("TM401")), ("TM203",), False),
    ],
)
def test_a_control_may_have_notes_and_what_is_true_of_it(
    found: tuple[Finding, ...], real: tuple[str, ...], good: bool
) -> None:
    assert run(control(*found, real=real)).good is good


def test_the_tables_count_what_was_found() -> None:
    outcomes = [run(fault("TM401")), run(fault("TM402", base="torch")), run(control())]
    assert str(tally(outcomes[:2])) == "1 / 2"
    page = table.page(outcomes, cases=9)
    assert "3 of 9 cases were run" in page
    assert "| all faults | 1 | 2 | 50.0% |" in page
    assert "| TM402 | nothing | weak |  | torch | TM401 |" in page
    assert "| loss | x | none |" in page


def test_outcomes_survive_the_file() -> None:
    outcomes = [
        run(fault("TM402", also=("TM401",))),
        run(control(finding("TM203"), real=("TM203",))),
    ]
    again = [from_json(json.loads(json.dumps(outcome.to_json()))) for outcome in outcomes]
    assert [o.to_json() for o in again] == [o.to_json() for o in outcomes]
    assert [o.good for o in again] == [True, True]


def test_randomness_of_a_case_does_not_depend_on_what_ran_before() -> None:
    import torch

    def prepare() -> object:
        value = float(torch.rand(()))
        return lambda: [finding(f"{value}")]

    first, second = (run(fault(prepare=prepare)) for _ in range(2))
    assert first.codes == second.codes


FAST = (
    "TM401 softmax over one channel / realistic / functions",
    "TM403 the weighted loss replaced by a plain one / realistic",
    "TM405 the ignored id counted as a class / realistic",
    "TM406 ignored pixels as class 0",
    "TM408 a view without a permutation",
    "TM504 one batch norm for several layers / realistic",
    "TM601 a history without any hit / realistic",
    "TM603 a loss that stays where it began / strong",
    "TM606 model made once",
    "TM607 sgd with momentum / realistic",
    "TM201 same image in two parts / realistic / textures",
    "control loss: CrossEntropyLoss, weight",
    "control loss: Truemask Focal",
    "control weights: balanced",
    "control run: called sgd_lr0.01",
    "control data: textures",
)
"""Titles, or their beginnings, of cases of a second or less."""


@pytest.mark.parametrize("title", FAST)
def test_a_fast_part_of_the_benchmark(title: str, everything: list[Case]) -> None:
    chosen = [case for case in everything if case.title.startswith(title)]
    assert chosen
    outcome: Outcome = run(chosen[0])
    assert outcome.good, line(outcome)


def test_titles_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "TM403"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all("TM403" in text for text in lines)
