"""Memory that is kept costs no page faults, and huge pages few."""

import os
import platform
import subprocess
import sys

import pytest

from truemask.training.allocation import use_huge_pages

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

_SCRIPT = """
import resource
{first}
from truemask.training.allocation import keep_memory, use_huge_pages
{calls}
import torch
torch.set_num_threads(1)

def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step() -> None:
    blocks = [torch.zeros(40 << 20, dtype=torch.uint8).add_(1) for _ in range(3)]

for _ in range(12):  # holes of the right size are found after some
    step()
before = faults()
step()
print(faults() - before)
"""

PAGES = 3 * (40 << 20) // 4096


# Some systems give huge pages to everybody; PR_SET_THP_DISABLE turns them off for one process.
_SMALL_PAGES = "import ctypes; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)"


def faults_of_a_later_step(calls: str, first: str = "") -> int:
    script = _SCRIPT.format(calls=calls, first=first)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_later_step_needs_no_new_pages() -> None:
    assert faults_of_a_later_step("", _SMALL_PAGES) > PAGES // 2
    assert faults_of_a_later_step("keep_memory()", _SMALL_PAGES) < PAGES // 100


def test_kept_memory_and_huge_pages_go_together() -> None:
    assert faults_of_a_later_step("use_huge_pages(); keep_memory()") < PAGES // 100


def test_huge_pages_are_asked_for() -> None:
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
        if "[never]" in file.read():
            pytest.skip("this system has no huge pages")
    assert faults_of_a_later_step("use_huge_pages()") < PAGES // 10


def test_a_choice_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
