"""`python -m benchmarks.audit OUT --camvid ROOT`: the tables of docs/audit.md.

Needs `pip install truemask[benchmarks]`, for cleanlab. It trains a model for each dataset, on
labels that hold errors, which takes `--minutes` each; then it injects and ranks.
"""

import argparse
import json
import pickle
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.audit.compare import Predictions, gather, judge
from benchmarks.audit.injection import KINDS
from benchmarks.audit.material import CAMVID, MINIATURES, write
from truemask.runs import Run, list_runs

DEFAULT = "softmin 0.1"
"""What cleanlab does by itself."""


def main() -> None:
    """Train, inject, rank, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--only", default=",".join((CAMVID, *MINIATURES)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=int, default=10)
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for name in options.only.split(","):
        data = write(name, options.out / "data", camvid_root=options.camvid)
        run = _trained(name, data, options.out, options.minutes)
        file = options.out / f"{name}.pickle"
        if not file.exists():
            predictions = Predictions(run, data, options.out / "logits" / name)
            seeds = range(options.first, options.first + options.seeds)
            file.write_bytes(pickle.dumps(gather(predictions, seeds)))
        # Our own file, written above.
        cells = [judge(trial) for trial in pickle.loads(file.read_bytes())]
        scores = run.results["test"]
        results[name] = {
            "images": scores.images,
            "accuracy": scores.pixel_accuracy,
            "iou": scores.iou,
            "cells": [asdict(cell) for cell in cells],
        }
        (options.out / f"{name}.json").write_text(json.dumps(results[name]))
    print(tables(results))


def _trained(name: str, data: Path, out: Path, minutes: int) -> Run:
    finished = [run for run in list_runs(out / "runs" / name) if run.finished]
    if not finished:
        words = [
            sys.executable, "-m", "truemask", "train", str(data), f"name={name}",
            f"runs={out / 'runs'}", f"trainer.max_time={minutes}:00", "trainer.average=0.99",
            "model.widths=[16,32,64,128,256]", "checks.enabled=false",
            *(["data.crop=[240,320]"] if name == CAMVID else []),
        ]  # fmt: skip
        subprocess.run(words, check=True)
        finished = [run for run in list_runs(out / "runs" / name) if run.finished]
    return finished[0]


def tables(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: for each dataset and kind the figures of both, and the difference."""
    lines = [
        "| data | kind | rate | P@N | P@N, cleanlab | AP | AP, cleanlab | difference, 95 % "
        "| AP, best of cleanlab |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        for kind in KINDS:
            for rate in sorted({cell["rate"] for cell in result["cells"]}):
                chosen = [
                    cell for cell in result["cells"] if (cell["kind"], cell["rate"]) == (kind, rate)
                ]
                lines.append(_row(name, kind, rate, chosen))
    lines += ["", *_means(results), "", *_flags(results)]
    return "\n".join(lines)


def _row(name: str, kind: str, rate: float, cells: list[Any]) -> str:
    theirs = [method for method in cells[0]["methods"] if method != "audit"]
    ap = {m: np.array([cell["methods"][m][1] for cell in cells]) for m in cells[0]["methods"]}
    at_n = {m: np.array([cell["methods"][m][0] for cell in cells]) for m in cells[0]["methods"]}
    best = max(theirs, key=lambda m: ap[m].mean())
    difference = ap["audit"] - ap[DEFAULT]
    low, high = _interval(difference)
    return (
        f"| {name} | {kind} | {rate:.0%} | {at_n['audit'].mean():.2f} | "
        f"{at_n[DEFAULT].mean():.2f} | {ap['audit'].mean():.2f} | {ap[DEFAULT].mean():.2f} | "
        f"{difference.mean():+.2f} [{low:+.2f}, {high:+.2f}] | {ap[best].mean():.2f} ({best}) |"
    )


def _means(results: dict[str, dict[str, Any]]) -> list[str]:
    """Mean average precision over datasets, rates and seeds: of each kind, then of all."""
    methods = list(next(iter(results.values()))["cells"][0]["methods"])
    lines = [
        "| kind | " + " | ".join(methods) + " | audit - default, 95 % | regions found |",
        "|---" * (len(methods) + 3) + "|",
    ]
    for kind in (*KINDS, None):
        cells = [
            cell
            for result in results.values()
            for cell in result["cells"]
            if kind in (None, cell["kind"])
        ]
        found = [np.mean([cell["methods"][m][1] for cell in cells]) for m in methods]
        # The first seed of each dataset together, the second, and so on: they may have others.
        by_seed: dict[int, list[float]] = {}
        for result in results.values():
            seeds = sorted({cell["seed"] for cell in result["cells"]})
            for cell in result["cells"]:
                if kind in (None, cell["kind"]):
                    by_seed.setdefault(seeds.index(cell["seed"]), []).append(
                        cell["methods"]["audit"][1] - cell["methods"][DEFAULT][1]
                    )
        means = np.array([np.mean(values) for values in by_seed.values()])
        low, high = _interval(means)
        regions = [cell["regions"] for cell in cells if cell["regions"] is not None]
        told = f"{np.mean(regions):.2f}" if regions else "-"
        lines.append(
            f"| {kind or 'all'} | "
            + " | ".join(f"{value:.3f}" for value in found)
            + f" | {means.mean():+.3f} [{low:+.3f}, {high:+.3f}] | {told} |"
        )
    return lines


def _flags(results: dict[str, dict[str, Any]]) -> list[str]:
    """Of what is flagged at the default threshold: how much, and how much of it was injected."""
    lines = [
        "| data | images | pixel accuracy | IoU | flagged at 5 % | of them wrong "
        "| flagged at 15 % | of them wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        told = []
        for rate in sorted({cell["rate"] for cell in result["cells"]}):
            counts = np.array([c["flagged"] for c in result["cells"] if c["rate"] == rate])
            flagged, right = counts.sum(0)
            told.append(f"{counts[:, 0].mean():.0f} | {right / max(1, flagged):.0%}")
        lines.append(
            f"| {name} | {result['images']} | {result['accuracy']:.3f} | {result['iou']:.3f} | "
            + " | ".join(told)
            + " |"
        )
    return lines


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Student's, over seeds: which labels were made wrong, not how the model was trained."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


if __name__ == "__main__":
    main()
