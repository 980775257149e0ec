"""Timing programs against each other, each in a process of its own, in turn."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.workloads import Workload

PAUSE = 0.05
"""Seconds between two turns, in which the threads of the last one go to sleep."""


WARM_UP_STEPS = 12
WARM_UP_SECONDS = 15.0


@dataclass(frozen=True)
class Program:
    """A loop and the environment that it runs in.

    Attributes:
        loop: its name in `benchmarks.loops`.
        environment: variables that are set besides those that are set here.
        label: what it is called in a table.
    """

    loop: str
    environment: Mapping[str, str] = field(default_factory=dict)
    label: str = ""


class Process:
    """A program that takes its turns when it is asked to."""

    def __init__(self, program: Program, workload: Workload, batch_size: int) -> None:
        self.program = program
        words = [program.loop, workload.name, str(batch_size)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.loops", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **program.environment},
        )
        self._answer()

    def seconds(self, steps: int) -> float:
        """Of a step, over a turn of so many."""
        time.sleep(PAUSE)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._answer() / steps

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the loop {self.program.loop} ended")
        return float(line)


@dataclass(frozen=True)
class Timing:
    """What the programs took.

    Attributes:
        seconds: of each program, one a turn.
    """

    seconds: list[list[float]]

    def median(self, program: int) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds[program])

    def ratio(self, program: int, other: int) -> float:
        """How many times as long the first takes as the second: the median over the turns."""
        pairs = zip(self.seconds[program], self.seconds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)


def _warm_up(process: Process) -> float:
    """Take steps until the memory has settled or some time is over; gives the seconds of one."""
    seconds, end = process.seconds(2), time.perf_counter() + WARM_UP_SECONDS
    for _ in range(WARM_UP_STEPS):
        if time.perf_counter() > end:
            break
        seconds = process.seconds(1)
    return seconds


def take_turns(
    programs: Sequence[Program],
    workload: Workload,
    batch_size: int,
    *,
    turns: int = 7,
    least: float = 0.5,
) -> Timing:
    """Time all programs, one after the other, again and again.

    Args:
        programs: to compare.
        workload: what they train.
        batch_size: images a step.
        turns: of each program.
        least: seconds that a turn should take.
    """
    processes = [Process(program, workload, batch_size) for program in programs]
    try:
        steps = [max(1, round(least / _warm_up(process))) for process in processes]
        rows = [
            [process.seconds(count) for process, count in zip(processes, steps, strict=True)]
            for _ in range(turns)
        ]
    finally:
        for process in processes:
            process.close()
    return Timing([list(column) for column in zip(*rows, strict=True)])
