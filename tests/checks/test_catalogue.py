"""All rules: a contract that every one keeps, and what is made of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from truemask import checks
from truemask.checks.catalogue import (
    SECTIONS,
    Selection,
    explain,
    find_rule,
    page,
    pages,
    rules,
    write_pages,
)
from truemask.checks.finding import LEVELS, Finding, Picture, Rule
from truemask.checks.outcome import Outcome
from truemask.checks.sarif import to_sarif
from truemask.checks.terminal import as_text
from truemask.errors import UsageError

DOCS = Path(__file__).parents[2] / "docs" / "checks"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.code)
def test_every_rule_keeps_the_contract(rule: Rule) -> None:
    assert re.fullmatch(r"TM[1-7]\d\d", rule.code)
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+|[a-z]+", rule.name)
    assert rule.level in LEVELS
    told = explain(rule)
    assert told.summary.endswith(".")
    assert tuple(told.sections) == SECTIONS
    for name, text in told.sections.items():
        assert len(text.split()) >= 1, f"{rule.code}: {name} says nothing"
    assert rule.level in page(rule)


def test_no_two_rules_share_a_code_or_a_name() -> None:
    found = rules()
    for key in ("code", "name"):
        values = [getattr(rule, key) for rule in found]
        assert len(values) == len(set(values))
    assert [rule.code for rule in found] == sorted(rule.code for rule in found)


def test_the_pages_are_those_of_the_docstrings() -> None:
    """If this fails: `python -m truemask.checks.catalogue docs/checks`."""
    found = {file.name: file.read_text() for file in DOCS.glob("*.md")}
    found.pop("benchmark.md", None)  # written by `python -m benchmarks.faults`
    assert found == pages()


def test_no_rule_is_left_out_of_the_catalogue() -> None:
    made = {
        code
        for file in Path(checks.__file__).parent.glob("*.py")
        for code in re.findall(r'^@rule\("(TM\d+)"', file.read_text(), re.MULTILINE)
    }
    assert {rule.code for rule in rules()} == made


def test_pages_of_rules_that_are_no_more_go(tmp_path: Path) -> None:
    (tmp_path / "TM999.md").write_text("")
    (tmp_path / "mine.md").write_text("")
    written = write_pages(tmp_path)
    assert {file.name for file in written} | {"mine.md"} == {f.name for f in tmp_path.iterdir()}


def test_links_of_the_index_lead_to_pages() -> None:
    made = pages()
    for target in re.findall(r"\]\(([^)]+)\)", "".join(made.values())):
        assert target in made or target.startswith("http"), target


def test_what_is_selected() -> None:
    assert Selection().takes("TM401")
    assert not Selection.of("TM6", None).takes("TM401")
    assert Selection.of("TM6,tm401", None).takes("TM401")
    assert Selection.of(["no-gradient"], "").takes("TM401")
    assert not Selection.of(None, "TM4").takes("TM401")
    # The longer one decides, as in a linter.
    assert Selection.of("TM401", "TM4").takes("TM401")
    assert not Selection.of("TM4", "TM401").takes("TM401")
    assert Selection.of("TM60", None).takes_any("TM6")
    assert not Selection.of("TM60", None).takes_any("TM4", "TM5")


@pytest.mark.parametrize("word", ["TM9", "no-gradiant", "401"])
def test_a_code_that_is_none(word: str) -> None:
    with pytest.raises(UsageError, match="there is no check"):
        Selection.of(word, None)


def test_rules_by_code_and_by_name() -> None:
    assert find_rule("tm602").name == "non-finite"
    assert find_rule("Non-Finite").code == "TM602"
    with pytest.raises(UsageError, match="did you mean 'no-gradient'"):
        find_rule("no-gradiend")


FOUND = [
    Finding(
        code="TM615", name="overfitted", level="note", message="It rose.", remedy="Stop earlier."
    ),
    Finding(
        code="TM602",
        name="non-finite",
        level="error",
        message="It is NaN.",
        remedy="Lower it.",
        where="history.csv",
        evidence={"first": 7, "share": 0.123456, "nan": float("nan"), "names": list("abcdefg")},
    ),
]


def test_findings_are_readable_lines() -> None:
    text = as_text(FOUND)
    assert text.index("error[TM602] non-finite  history.csv") < text.index("note[TM615]")
    for words in ("It is NaN.", "share: 0.1235", "a, b, c, d, e and 2 more", "mend: Lower it."):
        assert words in text
    assert "\x1b" not in text


def test_a_name_with_escape_sequences_is_harmless() -> None:
    finding = Finding(code="TM602", name="n", level="error", message="a\x1b[31m", remedy="",
                      where="\x1b]0;x\x07")  # fmt: skip
    assert "\x1b" not in as_text([finding])


def test_a_list_of_findings_is_short_in_an_assertion() -> None:
    assert repr(FOUND) == (
        "[<TM615 overfitted (note): It rose.>, <TM602 non-finite (error): It is NaN.>]"
    )
    import numpy as np

    picture = Picture(caption="", pixels=np.zeros((2, 2, 3), np.uint8))
    one, other = (
        Finding(code="TM1", name="n", level="note", message="", remedy="", pictures=(picture,) * n)
        for n in (1, 2)
    )
    assert one == other


def test_an_outcome_counts_and_is_json() -> None:
    outcome = Outcome()
    outcome.run("the history", lambda: FOUND)
    outcome.skip("the model", "none was given")
    assert outcome.summary == "1 error, 1 note"
    told = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert [finding["code"] for finding in told["findings"]] == ["TM602", "TM615"]
    assert told["findings"][0]["evidence"]["nan"] == "nan"
    assert told["skipped"] == ["the model: none was given"]
    assert Outcome().summary == "nothing found"


LEVEL_WORDS = {"none", "note", "warning", "error"}


def test_sarif_has_what_its_schema_requires(tmp_path: Path, monkeypatch) -> None:
    """By hand, from the required properties of the 2.1.0 schema; it cannot be downloaded here."""
    monkeypatch.chdir(tmp_path)
    Path("history.csv").write_text("")
    absolute = Finding(code="TM602", name="n", level="warning", message="m", remedy="r",
                       where=str(tmp_path / "history.csv"))  # fmt: skip
    log = json.loads(json.dumps(to_sarif([*FOUND, absolute]), allow_nan=False))
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "truemask"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for rule in driver["rules"]:
        assert rule["defaultConfiguration"]["level"] in LEVEL_WORDS
        for key in ("shortDescription", "fullDescription", "help"):
            assert rule[key]["text"]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    for result in run["results"]:
        assert result["message"]["text"]
        assert ids[result["ruleIndex"]] == result["ruleId"]
    relative, full = (
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in run["results"][:2]
    )
    assert relative == "history.csv"
    assert full == (tmp_path / "history.csv").as_uri()
    assert "locations" not in run["results"][2]


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"lightning", "hydra", "omegaconf", "pytest"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
from truemask import checks
assert "torch" not in sys.modules, "importing the package alone takes no torch"
from importlib.util import find_spec
for name, place in checks._PLACES.items():
    if find_spec(f"truemask.checks.{place}"):
        getattr(checks, name)
from truemask.checks import catalogue, guards, sarif, terminal
catalogue.rules()
assert not {"lightning", "hydra", "omegaconf"} & set(sys.modules)
"""


def test_the_checks_need_neither_lightning_nor_hydra() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_the_package_exports() -> None:
    assert dir(checks) == checks.__all__
    with pytest.raises(AttributeError, match="check_nothing"):
        checks.check_nothing  # noqa: B018
