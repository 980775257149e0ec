"""For pytest: a failed assertion shows the findings that it was about, and a fixture asserts.

def test_my_loss():
    assert not truemask.checks.check_loss(my_loss, num_classes=5)

def test_my_data(truemask_checks):
    truemask_checks.assert_none(truemask.checks.check_dataset(parts), ignore="TM112")
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from truemask.checks.catalogue import Selection
from truemask.checks.finding import Finding
from truemask.checks.terminal import as_text


class Asserting:
    """Assertions about findings, with messages to read."""

    def assert_none(
        self,
        findings: Iterable[Finding],
        *,
        select: str | None = None,
        ignore: str | None = None,
        notes: bool = False,
    ) -> None:
        """Fail with all that was found.

        Args:
            findings: of any check.
            select: codes, or their beginnings, that count.
            ignore: those that do not.
            notes: whether notes count too.
        """
        chosen = Selection.of(select, ignore).apply(findings)
        counted = [finding for finding in chosen if notes or finding.level != "note"]
        if counted:
            pytest.fail(f"truemask found:\n\n{as_text(counted)}", pytrace=False)


@pytest.fixture
def truemask_checks() -> Asserting:
    """Assertions about findings."""
    return Asserting()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Add the findings that stand in the frame of a failed assertion to its report."""
    outcome: Any = yield
    if call.excinfo is None or not call.excinfo.errisinstance(AssertionError):
        return
    values = call.excinfo.traceback[-1].frame.f_locals.values()
    found: list[Finding] = []
    for value in values:
        if isinstance(value, list) and value and all(isinstance(v, Finding) for v in value):
            found += [finding for finding in value if finding not in found]
    if found:
        outcome.get_result().sections.append(("Truemask findings", as_text(found)))
