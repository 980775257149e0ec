"""Masks for many images by several processes of this machine: the files that `predict` writes."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch
from torch import nn

from truemask.bundle import load_bundle
from truemask.errors import JobFailed, UsageError
from truemask.inference.lowered import with_precision
from truemask.inference.out import remove_left
from truemask.inference.predict import Calling
from truemask.inference.predict_file import Outcome, predict_file
from truemask.inference.settings import Settings
from truemask.inference.target import Target

_predict_one: Callable[[Target], Outcome]
"""What a process does with an image; set when it starts."""


def in_processes(
    bundle_folder: Path,
    *,
    count: int,
    settings: Settings,
    key: str,
    allow: Mapping[str, type[nn.Module]] | None = None,
) -> Calling:
    """What predicts images by several processes, for `inference.predict.predict`.

    Args:
        bundle_folder: the bundle, which each process loads.
        count: how many processes; they share the machine's cores.
        settings: what is asked for.
        key: what `records.model_key` gives.
        allow: classes that the bundle may hold besides the package's own, see `load_bundle`.

    Raises:
        UsageError: the count is not positive; when it is used, what `predict_file` raises.
        JobFailed: when it is used: a process died.
    """
    if count < 1:
        raise UsageError(f"--processes {count} is too few: give 1 or more")
    start = partial(
        _start,
        bundle_folder=bundle_folder,
        settings=settings,
        key=key,
        allow=allow,
        threads=max(1, torch.get_num_threads() // count),
    )

    def calling(targets: Sequence[Target]) -> Iterator[tuple[int, Outcome]]:
        if not targets:
            return
        # Started anew, as a process that is copied with its threads may hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(count, len(targets)), mp_context=context, initializer=start)
        waiting = iter(range(len(targets)))
        running: dict[Future[Outcome], int] = {}
        try:
            while True:
                while len(running) < 2 * count and (index := next(waiting, None)) is not None:
                    running[pool.submit(_call, targets[index])] = index
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda one: running[one]):
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise JobFailed(
                "a process died, perhaps for lack of memory: run the same again with fewer "
                "--processes or a lower --tile; it goes on from there"
            ) from error
        finally:
            if running:  # it ends early
                for child in multiprocessing.active_children():
                    child.terminate()
                pool.shutdown()
                remove_left(targets)
            pool.shutdown(cancel_futures=True)

    return calling


def _start(
    *,
    bundle_folder: Path,
    settings: Settings,
    key: str,
    allow: Mapping[str, type[nn.Module]] | None,
    threads: int,
) -> None:
    global _predict_one
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for these.
    torch.set_num_threads(threads)
    bundle = with_precision(load_bundle(bundle_folder, allow=allow), settings.precision)
    if torch.cuda.is_available():
        bundle.model.to("cuda")
    _predict_one = partial(predict_file, bundle, settings=settings, key=key)


def _call(target: Target) -> Outcome:
    return _predict_one(target)
