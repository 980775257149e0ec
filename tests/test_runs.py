import errno
import io
import json
import math
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from truemask.bundle import save_bundle
from truemask.errors import UsageError
from truemask.images import RGB
from truemask.labels import LabelMap
from truemask.models.described import build_network
from truemask.models.segmenter import Segmenter
from truemask.results import PartResult
from truemask.run_samples import LONG_SIDE
from truemask.run_search import is_run
from truemask.runs import (
    HISTORY_COLUMNS,
    Run,
    RunSample,
    list_runs,
    newest,
    on_other_data,
)
from truemask.untrusted import safe_name

LABELS = LabelMap(names=("sky", "road"), values={0: 0, 128: 1, 255: 255}, ignore_name="void")


def make_result(iou: float = 0.5) -> PartResult:
    by_class = {"sky": iou, "road": None}
    return PartResult(
        images=4,
        loss=0.25,
        iou=iou,
        dice=0.6,
        pixel_accuracy=0.7,
        mean_accuracy=0.8,
        frequency_weighted_iou=0.9,
        iou_per_class=dict(by_class),
        dice_per_class=dict(by_class),
        precision_per_class=dict(by_class),
        recall_per_class=dict(by_class),
        f1_per_class=dict(by_class),
        confusion=[[3, 1], [0, 0]],
        intervals={"iou": (0.4, 0.6)},
    )


def make_run(root: Path, experiment: str = "photos") -> Run:
    run = Run.create(root, experiment=experiment)
    run.write_config({"seed": 0})
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def refusal(read: Any) -> str:
    with pytest.raises(UsageError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Making and finding runs.


def test_a_new_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda _: Run.create(tmp_path, experiment="voc/edges"), range(40)))
    assert len({run.path for run in runs}) == 40
    for run in runs:
        assert run.path.parent == tmp_path / "voc" / "edges"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?", run.path.name)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "", ".", "a\nb", "C:\\x", "..\\x"])
def test_an_experiment_does_not_lead_out_of_the_root(tmp_path: Path, name: str) -> None:
    assert "cannot be the name of an experiment" in refusal(
        lambda: Run.create(tmp_path / "runs", experiment=name)
    )
    assert list(tmp_path.rglob("*-*")) == []


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    message = refusal(lambda: Run.create(tmp_path / "runs", experiment="photos"))
    assert "choose another folder" in message


def test_a_full_disk_is_no_endless_search_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def full(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.name.startswith("2"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", full)
    assert "the disk is full" in refusal(lambda: Run.create(tmp_path, experiment="photos"))


def test_open_takes_the_folder_of_a_run(run: Run) -> None:
    assert Run.open(run.path) == run
    assert is_run(run.path)
    assert not is_run(run.path.parent)


def test_open_says_what_to_give_instead(run: Run, tmp_path: Path) -> None:
    run.bundle_folder.mkdir()
    assert f"lies inside a run: give the run itself, {run.path}" in refusal(
        lambda: Run.open(run.bundle_folder)
    )
    assert str(run.path) in refusal(lambda: Run.open(run.path / "config.yaml"))
    assert f"the newest runs below it are {run.path}" in refusal(lambda: Run.open(tmp_path))
    assert "does not exist" in refusal(lambda: Run.open(tmp_path / "nothing"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no config.yaml): give runs/" in refusal(lambda: Run.open(empty))
    (empty / "file").write_text("")
    assert "is a file" in refusal(lambda: Run.open(empty / "file"))


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "runs", name) for name in ("b", "voc/edges", "a")]
    for age, run in enumerate(runs):
        os.utime(run.path / "config.yaml", (1e9 - age, 1e9 - age))
        run.write_history([])  # what is written later does not make a run younger
    Run.create(tmp_path / "runs", experiment="not yet one")
    (runs[0].path / "copy").mkdir()
    (runs[0].path / "copy" / "config.yaml").write_text("")
    (tmp_path / "runs" / "circle").symlink_to(tmp_path / "runs")
    assert list_runs(tmp_path) == runs
    assert list_runs(runs[1].path) == [runs[1]]
    assert newest(tmp_path) == runs[0]
    assert list_runs(tmp_path / "nothing") == []
    assert "there is no run in" in refusal(lambda: newest(tmp_path / "nothing"))


def test_the_runs_of_a_sweep_are_listed_from_above_all_runs(tmp_path: Path) -> None:
    job = tmp_path / "runs" / "voc" / "edges" / "sweep_2026-11-28_20-00-00" / "jobs" / "003"
    runs = {make_run(job, "voc/edges"), make_run(tmp_path / "runs", "voc/edges")}
    assert set(list_runs(tmp_path)) == runs
    assert set(list_runs(tmp_path / "runs" / "voc")) == runs


# What a run holds.


def test_everything_that_is_written_is_read_again(run: Run) -> None:
    shared = [0.1, 1e-05]
    config = {
        "name": "ünïcode: #1",
        "optimizer": {"lr": 0.003, "betas": shared, "again": shared},
        "text": "1e-3",
        "none": None,
        "yes": True,
        "large": 10**20,
    }
    environment = {"versions": {"torch": "2.9"}, "seed": 0, "git_commit": None}
    splits = {"train": ["a b.png", "ü/c.png", " x"], "validation": [], "test": ["d\u2028e.png"]}
    findings = [{"code": "D101", "level": "error"}]
    run.write_config(config)
    run.write_environment(environment)
    run.write_labels(LABELS)
    run.write_splits(splits)
    run.write_results({"validation": make_result(), "test": make_result(0.25)})
    run.write_findings(findings)

    again = Run.open(run.path)
    assert again.config == config
    assert again.environment == environment
    assert again.labels == LABELS
    assert again.splits == splits
    assert again.results == {"validation": make_result(), "test": make_result(0.25)}
    assert again.findings == findings
    assert again.finished


def test_history_keeps_its_columns(run: Run) -> None:
    assert run.history == []
    run.write_history([])
    assert run.history == []
    assert (run.path / "history.csv").read_text() == ",".join(HISTORY_COLUMNS) + "\n"
    rows = [
        {"epoch": 0, "step": 10, "train_loss": 0.1 + 0.2, "validation_iou": math.nan},
        {"epoch": 1, "step": 20, "train_loss": None, "note": 'a, "b"\nc'},
    ]
    run.write_history(rows)
    first, second = run.history
    assert list(first) == [*HISTORY_COLUMNS, "note"]
    assert float(first["train_loss"]) == 0.1 + 0.2
    assert first["validation_iou"] == "nan"
    assert first["note"] == ""
    assert second["train_loss"] == ""
    assert second["note"] == 'a, "b"\nc'


def test_an_evaluation_is_two_files(run: Run) -> None:
    written = run.write_evaluation(
        "test", make_result(), save=lambda path: np.savez(path, matrices=np.ones(3))
    )
    assert written == run.path / "evaluation-test.json"
    assert PartResult.from_json(json.loads(written.read_text())) == make_result()
    assert np.load(run.path / "evaluation-test.npz")["matrices"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["../test", "a/b", "", ".hidden", "a b"])
def test_a_part_does_not_lead_out_of_the_run(run: Run, name: str) -> None:
    before = sorted(run.path.parent.rglob("*"))
    for write in (
        lambda: run.write_evaluation(name, make_result(), save=lambda path: path.write_text("")),
        lambda: run.write_splits({name: ["a"]}),
    ):
        assert "use letters, digits" in refusal(write)
    assert [p for p in sorted(run.path.parent.rglob("*")) if p.name != "splits"] == before


def test_a_killed_run_is_still_a_run(run: Run) -> None:
    again = Run.open(run.path)
    assert not again.finished
    assert (again.history, again.samples, again.splits) == ([], [], {})
    assert again.findings is None
    assert "has no results yet: it was stopped before its first checkpoint" in refusal(
        lambda: again.results
    )
    assert "has no weights yet" in refusal(again.load_bundle)
    assert "has no labels.json" in refusal(lambda: again.labels)
    assert "has no environment.json" in refusal(lambda: again.environment)
    again.checkpoints_folder.mkdir()
    again.last_checkpoint.write_text("")
    for read in (lambda: again.results, again.load_bundle):
        assert f"finish it with `truemask train resume={run.path}`" in refusal(read)


def test_a_run_loads_its_weights(run: Run) -> None:
    network = {
        "_target_": "truemask.models.texture_cnn.TextureCNN",
        "in_channels": 3,
        "channels": 2,
    }
    model = Segmenter(network=build_network(network), images=RGB)
    save_bundle(run.bundle_folder, model=model, network=network, labels=LABELS, info={})
    assert run.load_bundle().network == network


def test_a_full_disk_leaves_the_earlier_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_history([{"epoch": 0}])

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = refusal(lambda: run.write_history([{"epoch": 0}, {"epoch": 1}]))
    assert "history.csv: the disk is full" in message
    assert [row["epoch"] for row in run.history] == ["0"]
    assert sorted(file.name for file in run.path.iterdir()) == ["config.yaml", "history.csv"]


# Runs that somebody else made.


@pytest.mark.parametrize(
    "hostile",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "a: !!python/object/apply:subprocess.check_output [['touch', '{mark}']]",
        "a: !!python/object/new:pathlib.PosixPath ['{mark}']",
        "!!python/name:os.system",
        "a: !!python/module:os",
        "a: !unknown 1",
    ],
)
def test_a_hostile_config_executes_nothing(run: Run, tmp_path: Path, hostile: str) -> None:
    mark = tmp_path / "hacked"
    (run.path / "config.yaml").write_text(hostile.format(mark=mark))
    message = refusal(lambda: Run.open(run.path).config)
    assert message.startswith(f"{run.path / 'config.yaml'} is not plain YAML")
    assert not mark.exists()


def test_a_config_does_not_grow_in_memory(run: Run) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    (run.path / "config.yaml").write_text("\n".join(lines))
    assert "aliases (*name) are not allowed" in refusal(lambda: run.config)


@pytest.mark.parametrize(
    "text",
    ["", "- 1", "a: [", "a: 2025-99-99", "\x00", "[" * 5000, "a: b: c", "text"],
    ids=["empty", "list", "open", "date", "control", "deep", "colons", "text"],
)
def test_a_damaged_config(run: Run, text: str) -> None:
    (run.path / "config.yaml").write_text(text)
    assert str(run.path / "config.yaml") in refusal(lambda: run.config)


@pytest.mark.parametrize("name", ["environment", "labels", "results", "findings"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"1", b'{"a": 1}', b'{"validation": {"intervals": {}}}', b"\xff", b"[" * 100_000],
)
def test_damaged_json(run: Run, name: str, content: bytes) -> None:
    file = run.path / f"{name}.json"
    file.write_bytes(content)
    if name == "environment" and content.startswith(b'{"'):
        assert run.environment == json.loads(content)
    else:
        assert str(file) in refusal(lambda: getattr(run, name))


@pytest.mark.parametrize(
    "content",
    [b"a,b\n1\n", b"a,b\n1,2,3\n", b'a,b\n1,"2', b"\xff\xfe", b'a,b\n1,"2"x\n'],
)
def test_a_damaged_history(run: Run, content: bytes) -> None:
    (run.path / "history.csv").write_bytes(content)
    assert str(run.path / "history.csv") in refusal(lambda: run.history)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "a/../../b", "C:/x", "..\\x"])
def test_names_of_samples_do_not_lead_elsewhere(run: Run, name: str) -> None:
    assert "cannot be a sample" in refusal(lambda: run.write_splits({"test": ["a.png", name]}))
    (run.path / "splits" / "test.txt").write_text(f"a.png\n{name}\n")
    message = refusal(lambda: run.splits)
    assert str(run.path / "splits" / "test.txt") in message
    assert repr(name) in message


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_a_safe_name_stays_below_its_folder(name: str) -> None:
    try:
        safe_name(name, what="a sample")
    except UsageError:
        return
    joined = os.path.normpath(os.path.join("/base/folder", name))
    assert joined.startswith("/base/folder/")
    assert name.split("\n") == [name]


def test_splits_of_another_system(run: Run) -> None:
    run.write_splits({"test": []})
    (run.path / "splits" / "test.txt").write_bytes(b"a.png\r\nb.png\r\n\r\n")
    (run.path / "splits" / "notes.md").write_text("")
    assert run.splits == {"test": ["a.png", "b.png"]}


# The small pictures.


def make_sample(height: int, width: int, **changes: Any) -> RunSample:
    generator = np.random.default_rng(height)
    smooth = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    values: dict[str, Any] = {
        "part": "test",
        "kind": "best",
        "name": "street/01.png",
        "iou": 0.75,
        "image": np.repeat(smooth[..., None].astype(np.uint8), 3, axis=2),
        "truth": generator.integers(0, 2, (height, width), dtype=np.uint8),
        "prediction": np.full((height, width), 255, dtype=np.uint8),
    }
    return RunSample(**values | changes)


def test_small_samples_stay_as_they_are(run: Run) -> None:
    wanted = make_sample(40, 60)
    run.write_samples([wanted])
    (read,) = run.samples
    assert (read.part, read.kind, read.name, read.iou) == ("test", "best", "street/01.png", 0.75)
    np.testing.assert_array_equal(read.truth, wanted.truth)
    np.testing.assert_array_equal(read.prediction, wanted.prediction)
    assert np.abs(read.image.astype(int) - wanted.image).max() <= 4  # JPEG


@pytest.mark.parametrize(("height", "width"), [(1000, 2000), (2000, 500), (3000, 1)])
def test_large_samples_become_small(run: Run, height: int, width: int) -> None:
    truth = np.zeros((height, width), dtype=np.uint8)
    truth[: height // 2] = 1
    truth[:, width // 2 :] = 255
    run.write_samples([make_sample(height, width, truth=truth, prediction=None, iou=math.nan)])
    (read,) = run.samples
    assert max(read.image.shape) == LONG_SIDE
    assert read.truth.shape == read.image.shape[:2]
    assert read.prediction is None
    assert read.iou is None
    assert set(np.unique(read.truth)) <= {0, 1, 255}  # nearest: no ids in between
    share, expected = np.mean(read.truth == 1), np.mean(truth == 1)
    assert abs(share - expected) < 0.01


def test_new_samples_replace_the_old_and_nothing_else(run: Run) -> None:
    run.write_samples([make_sample(10, 12), make_sample(20, 12, kind="worst")])
    old = {file.name for file in (run.path / "samples").iterdir()}
    (run.path / "samples" / "mine.png").write_text("")
    run.write_samples([make_sample(30, 12)])
    new = {file.name for file in (run.path / "samples").iterdir()}
    assert new & old == {"samples.json"} | {  # the same prediction is the same file
        name for name in new & old if name.endswith(".png")
    }
    assert "mine.png" in new
    assert len(new) == 5
    assert len(run.samples) == 1


def test_a_failure_leaves_the_old_samples(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_samples([make_sample(10, 12)])

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert "disk is full" in refusal(lambda: run.write_samples([make_sample(30, 12)]))
    assert run.samples[0].image.shape == (10, 12, 3)


def edit_sample(run: Run, **changes: Any) -> None:
    file = run.path / "samples" / "samples.json"
    (item,) = json.loads(file.read_text())
    file.write_text(json.dumps([item | changes]))


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "../../secret.jpg"},
        {"image": "/etc/passwd"},
        {"image": "0" * 32 + ".jpg"},
        {"image": None},
        {"truth": {"_target_": "os.system"}},
        {"prediction": "samples.json"},
        {"name": "../../secret.png"},
        {"kind": "favourite"},
        {"iou": "high"},
        {"iou": [1]},
    ],
)
def test_hostile_samples(run: Run, changes: dict[str, Any]) -> None:
    run.write_samples([make_sample(10, 12)])
    edit_sample(run, **changes)
    assert str(run.path / "samples" / "samples.json") in refusal(lambda: run.samples)


def encoded(picture: Image.Image, form: str) -> bytes:
    content = io.BytesIO()
    picture.save(content, form)
    return content.getvalue()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("jpg", b""),
        ("jpg", b"GIF89a"),
        ("jpg", encoded(Image.new("RGB", (12, 10)), "JPEG")[:200]),
        ("jpg", encoded(Image.new("RGB", (12, 10)), "PNG")),
        ("jpg", encoded(Image.new("L", (12, 10)), "JPEG")),
        ("jpg", encoded(Image.new("RGB", (12, 11)), "JPEG")),
        ("jpg", encoded(Image.new("RGB", (5000, 10)), "JPEG")),
        ("png", encoded(Image.new("P", (12, 10)), "PNG")),
        ("png", encoded(Image.new("1", (20_000, 20_000)), "PNG")),
        ("png", pickle.dumps(print)),
    ],
)
def test_damaged_pictures(run: Run, suffix: str, content: bytes) -> None:
    run.write_samples([make_sample(10, 12)])
    name = "ab" * 16 + "." + suffix
    (run.path / "samples" / name).write_bytes(content)
    edit_sample(run, **{"image" if suffix == "jpg" else "truth": name})
    assert "samples.json" in refusal(lambda: run.samples)


def test_no_property_executes_what_a_pickle_holds(run: Run, tmp_path: Path) -> None:
    mark = tmp_path / "hacked"

    class Hack:
        def __reduce__(self) -> Any:
            return (Path.touch, (mark,))

    run.write_samples([make_sample(10, 12)])
    run.write_splits({"test": ["a"]})
    for name in ("environment", "labels", "results", "findings", "samples/samples"):
        (run.path / f"{name}.json").write_bytes(pickle.dumps(Hack()))
    for name in ("config.yaml", "history.csv", "splits/test.txt"):
        torch.save(Hack(), run.path / name)
    properties = ("config", "environment", "labels", "splits", "history", "results", "findings")
    for name in (*properties, "samples"):
        refusal(lambda name=name: getattr(run, name))
    assert not mark.exists()


def test_the_config_is_plain_yaml_for_others_too(run: Run) -> None:
    run.write_config({"a": (shared := {"b": 1}), "c": shared})
    text = (run.path / "config.yaml").read_text()
    assert "&" not in text
    assert yaml.safe_load(text) == {"a": {"b": 1}, "c": {"b": 1}}


def test_other_data_of_one_name_gets_names_of_its_own(tmp_path: Path) -> None:
    def name(place: str, kind: str = "truemask.datasets.folder.folder") -> str:
        return on_other_data({"data": {"dataset": {"_target_": kind, "root": place}}})

    places = [str(tmp_path / "a" / "photos"), str(tmp_path / "b" / "photos"), "s3://bucket/photos"]
    names = [*map(name, places), name(places[0], "truemask.datasets.voc.voc")]
    assert all(re.fullmatch(r"-on-photos-[0-9a-f]{6}", one) for one in names)
    assert len(set(names)) == 4
    assert name(places[0] + "/../photos/") == names[0]


@pytest.mark.parametrize("text", ["{", "[]", '{"test": {}}'])
def test_a_damaged_file_of_results_is_named_once(run: Run, text: str) -> None:
    file = run.path / "results.json"
    file.write_text(text)
    assert refusal(lambda: run.results).count(str(file)) == 1
