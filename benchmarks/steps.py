"""Training steps of the five projects' models, Truemask's against others, in turn.

`python -m benchmarks.steps` prints all tables; `python -m benchmarks.steps projects` one of them.
Truemask's step is that of `truemask train`, with loading, counting, averaging and all; the others
are in `benchmarks.loops`.
"""

import os
import sys
from pathlib import Path

import torch

from benchmarks.loops import DEVICE, bfloat16
from benchmarks.peak import device_name, step_flops
from benchmarks.turns import Program, Timing, take_turns
from benchmarks.workloads import VANILLA, WORKLOADS, Workload
from truemask.training.peak import convolution_peak

OURS, PROJECTS, TUNED, LIGHTNING = (
    Program(loop) for loop in ("truemask", "projects", "tuned", "lightning")
)

BATCH_SIZES = (2, 4, 8, 16, 32)

_LIBRARIES = "/usr/lib/x86_64-linux-gnu/"
ALLOCATORS = os.environ.get(
    "ALLOCATORS", f"{_LIBRARIES}libjemalloc.so.2:{_LIBRARIES}libtcmalloc_minimal.so.4"
).split(":")
"""Where Debian's packages put other allocators; those that are missing are left out."""

_HUGE = {"THP_MEM_ALLOC_ENABLE": "1"}
_KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}

ENVIRONMENTS = (
    Program("tuned", label="nothing set"),
    Program("tuned", _KEPT, "memory is kept"),
    Program("tuned", _HUGE, "huge pages"),
    Program("tuned", _HUGE | _KEPT, "huge pages, memory is kept"),
    Program("tuned", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | _KEPT, "likewise, by glibc"),
    Program("tuned", _HUGE | _KEPT | {"OMP_PROC_BIND": "true"}, "and threads bound"),
    Program("tuned", _HUGE | _KEPT | {"GOMP_SPINCOUNT": "20000"}, "and short spinning"),
    *(
        Program("tuned", {"LD_PRELOAD": path}, Path(path).name.partition(".")[0])
        for path in ALLOCATORS
        if Path(path).exists()
    ),
)


def projects() -> None:
    """Each model at its own batch size against the other three loops."""
    print(f"\n{'images a second':<36}{'Truemask':>9}{'project':>9}{'tuned':>9}{'Lightning':>10}")
    for workload in WORKLOADS:
        size = workload.batch_size
        timing = take_turns((OURS, PROJECTS, TUNED, LIGHTNING), workload, size)
        name = f"{workload.name}, {size} x {workload.size[0]}x{workload.size[1]}"
        rates = [size / timing.median(program) for program in range(4)]
        gains = [timing.ratio(other, 0) for other in (1, 2, 3)]
        print(
            f"{name:<36}{rates[0]:>9.1f}{rates[1]:>9.1f}{rates[2]:>9.1f}{rates[3]:>10.1f}"
            f"   ours is {gains[0]:.2f}, {gains[1]:.2f} and {gains[2]:.2f} times as fast",
            flush=True,
        )


def batch_sizes(workload: Workload = VANILLA) -> None:
    """One model against the tuned loop at several batch sizes, and its share of the peak."""
    dtype = torch.bfloat16 if bfloat16(workload) else torch.float32
    peak = convolution_peak(DEVICE, dtype, seconds=5.0)
    name = str(dtype).removeprefix("torch.")
    print(f"\n{workload.name}; peak of 3x3 convolutions in {name}: {peak / 1e9:.0f} GFLOP/s")
    print(f"{'batch':<8}{'Truemask':>12}{'tuned loop':>12}{'ratio':>8}{'of the peak':>14}")
    for size in BATCH_SIZES:
        timing = take_turns((OURS, TUNED), workload, size)
        flops = step_flops(workload, size)
        shares = [flops / timing.median(program) / peak for program in (0, 1)]
        print(
            f"{size:<8}{timing.median(0) * 1e3:>9.1f} ms{timing.median(1) * 1e3:>9.1f} ms"
            f"{timing.ratio(1, 0):>8.3f}{shares[0]:>8.1%}{shares[1]:>8.1%}",
            flush=True,
        )


def environments(workload: Workload = VANILLA) -> None:
    """The tuned loop under settings of the memory and of the threads."""
    print(f"\n{workload.name}, tuned loop, {workload.batch_size} images")
    timing: Timing = take_turns(ENVIRONMENTS, workload, workload.batch_size)
    for number, program in enumerate(ENVIRONMENTS):
        print(
            f"{program.label:<36}{timing.median(number) * 1e3:>9.1f} ms"
            f"{timing.ratio(0, number):>8.3f} x",
            flush=True,
        )


TABLES = {table.__name__: table for table in (projects, batch_sizes, environments)}


def main() -> None:
    """All tables, or those that are named."""
    print(device_name())
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()


if __name__ == "__main__":
    main()
