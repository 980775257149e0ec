"""What somebody's failing test prints."""

import subprocess
import sys
from pathlib import Path

TESTS = """
from truemask.checks.run import check_history

FLAT = {"loss": [0.0] * 5}

def test_plain():
    assert not check_history(FLAT)

def test_fixture(truemask_checks):
    truemask_checks.assert_none(check_history(FLAT), ignore="TM1")

def test_sound(truemask_checks):
    truemask_checks.assert_none(check_history(FLAT), ignore="TM603")
"""


def test_failures_show_the_findings(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    # Where the variable CI is set, pytest's summary at the end repeats the messages.
    _, _, shown = done.stdout.partition("Truemask findings")
    shown, _, _ = shown.partition("short test summary")
    assert shown.count("error[TM603] loss-never-moved") == 2
    assert shown.count("mend: Run check_loss") == 2
