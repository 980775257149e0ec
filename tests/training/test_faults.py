"""What goes wrong around a training costs no result, and resuming ends as if nothing had been."""

import gc
import importlib
import os
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from truemask.compose import compose_config, resume_config
from truemask.errors import JobFailed, UsageError
from truemask.runs import Run
from truemask.training import checkpoints
from truemask.training.fit import train
from truemask.training.interruption import Interruption
from truemask.training.loop import Loop

WORDS = [
    "model=unet", "model.widths=[4,8]", "trainer.max_epochs=6", "trainer.patience=null",
    "data.batch_size=2", "data.crop=[24,24]",
]  # fmt: skip


def write_folder(folder: Path, count: int = 12) -> Path:
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        mask = np.zeros((30, 40), np.uint8)
        mask[i : i + 12, i : i + 15] = 255
        image = (mask[..., None] // 2 + generator.integers(0, 90, (30, 40, 3))).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "squares")


def start(folder: Path, runs: Path, *words: str) -> Run:
    config = compose_config([*WORDS, f"runs={runs}", *words], folder=folder)
    return Run.open(Path(train(config, console=Console(quiet=True)).run))


def go_on(run: Run, *words: str) -> None:
    train(resume_config(run.config, list(words)), console=Console(quiet=True), resume=run)


def the_run(runs: Path) -> Run | None:
    found = [Run(path.parent) for path in runs.rglob("config.yaml")]
    return found[0] if found else None


def assert_same(one: Run, two: Run) -> None:
    clock = ("seconds", "images_per_second")
    rows = [[{k: r[k] for k in r if k not in clock} for r in run.history] for run in (one, two)]
    assert rows[0] == rows[1]
    first, second = (load_file(run.bundle_folder / "model.safetensors") for run in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert one.results == two.results


@pytest.fixture(scope="module")
def undisturbed(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(squares, tmp_path_factory.mktemp("undisturbed"))


@contextmanager
def sigterm_after(seconds: float) -> Iterator[None]:
    """Send this process the signal; where nobody takes it, nothing happens."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGTERM, before)


# Where the signal comes between the opening of a file and the name it gets, nobody else is left to
# close it than the collection of garbage.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.slow
def test_sigterm_at_any_moment_loses_nothing(
    squares: Path, undisturbed: Run, tmp_path: Path
) -> None:
    chance = random.Random(5)
    said, resumed = [], 0
    begin = time.monotonic()
    start(squares, tmp_path / "timed")
    seconds = time.monotonic() - begin
    for trial in range(12):
        runs = tmp_path / str(trial)
        with sigterm_after(chance.uniform(0.0, 0.9 * seconds)):
            try:
                start(squares, runs)
            except JobFailed as error:
                said.append(str(error))
        run = the_run(runs)
        if run is None:  # nothing was begun
            continue
        for file in run.path.rglob("*.part"):
            raise AssertionError(file)
        if not run.finished:
            resumed += 1
            go_on(run)
        assert_same(run, undisturbed)
    gc.collect()  # While the warning is expected.
    assert len(said) >= 4
    assert all(line.startswith("ended by SIGTERM") for line in said)
    assert resumed >= 2


def test_a_file_that_is_damaged_in_the_third_epoch_ends_the_training_with_its_name(
    tmp_path: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "squares")
    end_round = Loop._end_round

    def damaging(self, validation):
        end_round(self, validation)
        if self.state.round == 2:
            for image in (folder / "images").iterdir():
                image.write_bytes(image.read_bytes()[:100])

    monkeypatch.setattr(Loop, "_end_round", damaging)
    # Nothing is kept in memory, so that the files are read again.
    with pytest.raises(UsageError, match=r"images/\d\d\.png"):
        start(folder, tmp_path / "runs", "data.cache=0")
    monkeypatch.undo()
    run = the_run(tmp_path / "runs")
    assert run is not None
    assert len(run.history) == 2
    for image in (folder / "images").iterdir():
        image.unlink()
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    for name in ("images", "masks"):
        (folder / name).rmdir()
    write_folder(folder)
    go_on(run)
    assert_same(run, undisturbed)


def test_a_loading_process_that_is_killed_is_said_and_the_training_can_go_on(
    squares: Path, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop._step

    def killing(self, batches):
        step(self, batches)
        if self.state.step == 5:
            workers = self.training._iterator._workers
            os.kill(workers[0].pid, signal.SIGKILL)
            workers[0].join()

    monkeypatch.setattr(Loop, "_step", killing)
    with pytest.raises(JobFailed, match="a loading process was killed; go on with"):
        start(squares, tmp_path, "data.num_workers=1", f"data.cache_folder={tmp_path / 'cache'}")
    monkeypatch.undo()
    run = the_run(tmp_path)
    assert run is not None
    go_on(run)
    assert_same(run, undisturbed)


def test_a_full_disk_is_one_line_and_the_training_can_go_on(
    squares: Path, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = checkpoints.write_checkpoint, []

    def full(path, content):
        calls.append(path)
        if len(calls) == 3:
            raise UsageError(f"cannot write {path}: the disk is full")
        write(path, content)

    monkeypatch.setattr("truemask.training.record.write_checkpoint", full)
    with pytest.raises(UsageError, match="the disk is full"):
        start(squares, tmp_path)
    monkeypatch.undo()
    run = the_run(tmp_path)
    assert run is not None
    assert not run.finished
    go_on(run)
    assert_same(run, undisturbed)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption(Console(quiet=True)).installed():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def await_signal() -> None:
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.pause()
    except Exception as error:  # what turns errors into others must not keep it
        raise AssertionError from error


class Finalized:
    def __init__(self, finished: list[str]) -> None:
        self.finished = finished

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the signal comes while this is under way
        self.finished.append("not broken off")


def test_a_signal_within_a_finalizer_is_not_forgotten() -> None:
    interruption = Interruption(Console(quiet=True))
    before = signal.getsignal(signal.SIGALRM)
    finished: list[str] = []

    def finalize() -> None:
        Finalized(finished)
        assert finished
        time.sleep(5)
        raise AssertionError("nothing ended it")

    with pytest.raises(JobFailed, match="ended by SIGTERM"), interruption.installed():
        finalize()
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_signal_within_a_callback_is_not_forgotten() -> None:
    interruption = Interruption(Console(quiet=True))
    hook = sys.unraisablehook

    def call_back() -> None:
        watched = Watched()
        # The callback is not told of as an error, and what is raised in it does not come out of it.
        kept = weakref.ref(watched, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del watched
        time.sleep(5)
        raise AssertionError(kept)

    with pytest.raises(JobFailed, match="ended by SIGTERM"), interruption.installed():
        call_back()
    assert sys.unraisablehook is hook


class Watched:
    """An object to which weak references can be made."""


def test_a_signal_within_an_import_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ("import os, signal", "os.kill(os.getpid(), signal.SIGTERM)", "whole = True")
    (tmp_path / "signalled.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    interruption = Interruption(Console(quiet=True))

    def import_it() -> None:
        importlib.import_module("signalled")
        time.sleep(5)
        raise AssertionError("nothing ended it")

    with pytest.raises(JobFailed, match="ended by SIGTERM"), interruption.installed():
        import_it()
    assert sys.modules.pop("signalled").whole


def test_a_signal_that_somebody_kept_ends_the_training_later() -> None:
    interruption = Interruption(Console(quiet=True))
    kept = suppress(BaseException)  # what a library may do
    with pytest.raises(JobFailed, match="ended by SIGTERM"), interruption.installed(), kept:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_that_somebody_turned_into_an_error_is_told_as_a_signal() -> None:
    interruption = Interruption(Console(quiet=True))

    def turn() -> None:
        try:
            await_signal()
        except BaseException as error:  # what Hydra does while it composes
            raise UsageError("ConfigCompositionException") from error

    with pytest.raises(JobFailed, match="ended by SIGUSR1"), interruption.installed():
        turn()
    with pytest.raises(UsageError, match="as it is"), Interruption(Console(quiet=True)).installed():
        raise UsageError("as it is")


def test_a_signal_where_nothing_has_to_be_saved_ends_at_once() -> None:
    interruption = Interruption(Console(quiet=True))
    with pytest.raises(JobFailed, match="ended by SIGUSR1"), interruption.installed():
        await_signal()
