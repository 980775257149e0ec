"""The command line as a user meets it: each mistake is one clear line and exit code 2."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from truemask.cli import main
from truemask.metrics.boundary import BoundaryCounts
from truemask.metrics.edges import EdgeCounts
from truemask.runs import Run

FAST = [
    "model.widths=[4,8]",
    "trainer.max_epochs=1",
    "data.batch_size=2",
    "data.crop=[16,16]",
]


def write_pair(
    folder: Path, name: str, *, size: tuple[int, int] = (30, 24), value: int = 1
) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3))
    Image.fromarray(noise.astype(np.uint8)).save(folder / "images" / f"{name}.png")
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[4:12, 5:20] = value
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(6):
        write_pair(tmp_path / "photos", f"p{i}")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    for i in range(6):
        write_pair(root / "photos", f"p{i}")
    assert main(["train", str(root / "photos"), *FAST, f"runs={root / 'runs'}"]) == 0
    (found,) = (root / "runs" / "photos").iterdir()
    return found


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Calls the command, and holds what it says against the promise."""

    def call(*words: str, code: int = 2) -> str:
        command = list(words)
        if command[0] == "train" and len(command) == 2 and "=" not in command[1]:
            command += [] if command[1].startswith("-") else [*FAST, f"runs={tmp_path / 'runs'}"]
        assert main(command) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = [line for line in captured.err.splitlines() if line.startswith("truemask: ")]
        assert "Traceback" not in captured.err
        assert not list(tmp_path.rglob("*.part"))
        return line

    return call


def test_no_such_folder(fails, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in fails("train", str(tmp_path / "nowhere"))


def test_no_images(fails, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in fails("train", str(tmp_path / "empty"))


def test_an_image_without_a_mask(fails, photos: Path) -> None:
    (photos / "masks" / "p1.png").unlink()
    line = fails("train", str(photos))
    assert "p1" in line
    assert "mask" in line


def test_a_mask_without_an_image(fails, photos: Path) -> None:
    (photos / "images" / "p1.png").unlink()
    assert "p1" in fails("train", str(photos))


def test_sizes_that_differ(fails, photos: Path) -> None:
    path = photos / "masks" / "p2.png"
    Image.open(path).resize((10, 10)).save(path)
    line = fails("train", str(photos))
    assert "p2" in line
    assert "10" in line
    assert "30" in line


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_truncated_image(fails, photos: Path, kind: str) -> None:
    path = photos / "images" / "p3.png"
    whole = path.with_suffix(f".{kind}")
    Image.open(path).save(whole)
    content = whole.read_bytes()
    if whole != path:
        path.unlink()
    whole.write_bytes(content[: len(content) // 2])
    assert str(whole) in fails("train", str(photos))


def test_a_truncated_mask(fails, photos: Path) -> None:
    path = photos / "masks" / "p3.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 30])
    assert str(path) in fails("train", str(photos))


def test_an_id_outside_the_class_table(fails, photos: Path) -> None:
    classes = [{"id": i, "name": n, "color": [i, i, i]} for i, n in enumerate(("road", "car"))]
    (photos / "classes.json").write_text(json.dumps({"classes": classes}))
    write_pair(photos, "p9", value=7)
    line = fails("train", str(photos))
    assert "p9" in line
    assert "7" in line


def test_masks_saved_as_jpeg(fails, photos: Path) -> None:
    for path in sorted((photos / "masks").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    assert "JPEG" in fails("train", str(photos))


def test_an_empty_part(fails, photos: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "parts" / part / kind).mkdir(parents=True)
    write_pair(tmp_path / "parts" / "train", "a")
    assert "val" in fails("train", str(tmp_path / "parts"))


def test_a_crop_larger_than_every_image(fails, photos: Path, tmp_path: Path) -> None:
    line = fails("train", str(photos), "data.crop=[64,64]", f"runs={tmp_path / 'runs'}")
    assert "data.crop is 64 x 64" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=textures/dmo"], "did you mean 'textures/demo'?"),
        (["optimizer.lrr=1"], "did you mean 'lr'?"),
        (["trainer.max_epochs=soon"], "trainer.max_epochs is 'soon', but must be a whole number"),
        (["--epochs=3"], "no option --epochs=3"),
    ],
)
def test_wrong_words(fails, words: list[str], said: str) -> None:
    assert said in fails("train", *words)


def test_what_is_no_run(fails, tmp_path: Path) -> None:
    for command in (["evaluate"], ["report"], ["predict"]):
        extra = [str(tmp_path), "--out", str(tmp_path / "out")] if command == ["predict"] else []
        assert "is not a run" in fails(*command, str(tmp_path), *extra)
    assert "does not exist" in fails("train", f"resume={tmp_path / 'nowhere'}")


def test_a_bundle_whose_tensors_do_not_fit(fails, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    weights = copy / "model" / "model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    tensors[name] = torch.zeros(3, 3, 3)
    save_file(tensors, weights, metadata={"info": "{}"})
    line = fails("evaluate", str(copy), "--split", "validation")
    assert name in line
    assert str(weights) in line


def test_a_setting_that_would_change_nothing(fails, run: Path) -> None:
    assert "changes nothing here" in fails("evaluate", str(run), "trainer.max_epochs=3")


def test_other_data_is_evaluated_as_a_whole_where_it_is_asked_for(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.dataset.root={photos}", "data.dataset.split=[0,0,1]"]
    assert main(["evaluate", str(run), *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6


def test_boundaries_and_edges_are_scored_and_saved_where_they_are_asked_for(
    run: Path, photos: Path, fails, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.dataset.root={photos}", "data.dataset.split=[0,0,1]"]
    assert main(["evaluate", str(run), "--boundaries", "0.02", "--edges", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["boundaries"]["tolerance"] == result["edges"]["tolerance"] == 0.02
    assert result["boundaries"]["images"] == result["edges"]["images"] == 6
    assert "f1" in result["boundaries"]["intervals"]
    files = {}
    for kind in ("boundaries", "edges"):
        (file,) = run.glob(f"evaluation-{kind}-test-on-photos-*.json")
        assert json.loads(file.read_text()) == result[kind]
        files[kind] = file.with_suffix(".npz")
    counts = BoundaryCounts.load(files["boundaries"])
    assert counts.result().to_json() == result["boundaries"]
    edges = EdgeCounts.load(files["edges"])
    assert edges.result().to_json() == result["edges"]
    assert main(["evaluate", str(run), "--boundaries"]) == 0
    assert "0.0075 of the diagonal" in capsys.readouterr().out
    assert "tolerance is" in fails("evaluate", str(run), "--boundaries", "3")
    assert "below 0.25" in fails("evaluate", str(run), "--boundaries", "0.3")


def test_a_part_that_does_not_exist(fails, run: Path) -> None:
    assert "--split is 'tset'" in fails("evaluate", str(run), "--split", "tset")


def test_a_hostile_configuration_builds_nothing(fails, run: Path, tmp_path: Path) -> None:
    copy, trace = tmp_path / "run", tmp_path / "trace"
    shutil.copytree(run, copy)
    for hostile in (
        f"data: {{dataset: {{_target_: os.system, command: 'touch {trace}'}}}}\nseed: 0\n",
        f"data: {{dataset: !!python/object/apply:os.system ['touch {trace}']}}\nseed: 0\n",
        f"data: {{dataset: {{_target_: pathlib.Path.touch, self: '{trace}'}}}}\nseed: 0\n",
    ):
        (copy / "config.yaml").write_text(hostile)
        fails("evaluate", str(copy), "--split", "validation")
        assert not trace.exists()


@pytest.mark.parametrize(
    ("group", "key", "value", "said"),
    [
        ("trainer", "accelerator", "abacus", "yaml: trainer.accelerator is 'abacus', but must be"),
        ("trainer", "eval_intervall", 3, "did you mean 'eval_interval'?"),
        (None, "trainer", "fast", "trainer is 'fast', but must be a mapping of settings"),
        (None, "seed", "lucky", "config.yaml: seed is 'lucky', but must be a whole"),
        (None, "seed", -1, "seed is -1, but must be"),
    ],
)
def test_a_configuration_that_was_edited_by_hand(
    fails, run: Path, tmp_path: Path, group: str | None, key: str, value: object, said: str
) -> None:
    shutil.copytree(run, tmp_path / "run")
    copy = Run.open(tmp_path / "run")
    config = copy.config
    (config if group is None else config[group])[key] = value
    copy.write_config(config)
    line = fails("evaluate", str(copy.path), "--split", "validation")
    assert said in line


def test_where_nothing_can_be_written(fails, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    line = fails("train", str(photos), *FAST, f"runs={tmp_path / 'file'}")
    assert str(tmp_path / "file") in line
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 300 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system: run the tests as root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(fails, photos: Path, tiny_disk: Path) -> None:
    words = [word for word in FAST if not word.startswith("model")]
    line = fails("train", str(photos), *words, "model.widths=[64,128]", f"runs={tiny_disk}")
    assert "the disk is full" in line
    assert not list(tiny_disk.rglob("*.part"))


def test_a_read_only_disk(fails, run: Path, photos: Path, tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    line = fails("train", str(photos), *FAST, f"runs={tiny_disk}")
    assert "the file system is read-only" in line
    line = fails("predict", str(run), str(photos / "images"), "--out", str(tiny_disk / "out"))
    assert "the file system is read-only" in line


def test_a_full_disk_while_predicting_keeps_what_was_there(
    fails, run: Path, photos: Path, tiny_disk: Path
) -> None:
    (tiny_disk / "filler").write_bytes(b"x" * (300 * 1024 - 8192))
    line = fails("predict", str(run), str(photos / "images"), "--out", str(tiny_disk / "out"))
    assert "the disk is full" in line
    assert (tiny_disk / "filler").stat().st_size == 300 * 1024 - 8192


def test_predict_evaluate_report_and_list(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = run.parents[2] / "photos" / "images"
    out = tmp_path / "out"
    assert main(["predict", str(run), str(images), "--out", str(out), "--overlay"]) == 0
    assert len(list(out.glob("*.color.png"))) == 6
    assert (out / "predictions.csv").is_file()
    assert main(["evaluate", str(run), "--split", "test", "data.batch_size=7"]) == 0
    assert (run / "evaluation-test.json").is_file()
    saved = json.loads((run / "results.json").read_text())["test"]
    again = json.loads((run / "evaluation-test.json").read_text())
    assert again["confusion"] == saved["confusion"]
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").is_file()
    assert main(["list"]) == 0
    assert "textures/demo" in capsys.readouterr().out


def test_json_is_all_that_stands_on_stdout(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = str(run.parents[2] / "photos" / "images")
    for words in (
        ["evaluate", str(run), "--split", "validation"],
        ["predict", str(run), images, "--out", str(tmp_path / "out")],
        ["report", str(run)],
        ["list"],
    ):
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        json.loads(capsys.readouterr().out)


def test_a_bad_file_is_skipped_and_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(run.parents[2] / "photos" / "images", images)
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert main(["predict", str(run), str(images), "--out", str(tmp_path / "out")]) == 1
    assert "broken.png" in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("p?.png"))) == 6


def test_a_sweep_makes_one_run_for_each_value(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(photos), "-m", "seed=1,2", *FAST, f"runs={tmp_path / 'runs'}"]
    words += ["checks.enabled=false", "--json"]  # a process of its own, with images that are alike
    assert main(words) == 0
    results = json.loads(capsys.readouterr().out)
    assert len({job["run"] for job in results["jobs"]}) == 2


def test_the_program_starts_fast_and_helps(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["train"], ["evaluate"], ["predict"], ["report"], ["list"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == 0
        assert "usage: truemask" in capsys.readouterr().out
    code = (
        "import runpy, sys; sys.argv = ['truemask', '--version']\n"
        "try: runpy.run_module('truemask', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as ended: sys.exit(ended.code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:9]) == (0, "truemask ")


def test_predict_says_which_id_is_which_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(6):
        write_pair(tmp_path / "photos", f"p{i}", value=255)
    words = [*FAST, f"runs={tmp_path / 'runs'}"]
    assert main(["train", str(tmp_path / "photos"), *words]) == 0
    (run,) = (tmp_path / "runs" / "photos").iterdir()
    images = str(tmp_path / "photos" / "images")
    capsys.readouterr()
    assert main(["predict", str(run), images, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "6 masks in" in out
    assert "0 = background, 1 = foreground (value 255 in its masks)" in out


USER_CLASS = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, *, in_channels: int, out_channels: int, width: int = 4) -> None:
        super().__init__()
        self.scale = float(nn.Parameter(nn.init.ones_(nn.Conv2d(1, 1, 1).weight)).item())
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, out_channels, 1),
        )

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def forward(self, images):
        return self.layers(images) * self.scale
"""


def test_a_class_of_one_s_own_is_a_file_and_is_trusted_by_name_only(
    fails, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "their_nets.py").write_text(USER_CLASS)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "tiny.yaml").write_text("_target_: their_nets.Tiny\n")
    path = f"hydra.searchpath=[file://{tmp_path / 'configs'}]"
    words = [path, "model=tiny", "model.width=3", *FAST[1:], f"runs={tmp_path / 'runs'}"]
    assert main(["train", str(photos), *words]) == 0
    (run,) = (tmp_path / "runs" / "photos").iterdir()
    images, out = str(photos / "images"), str(tmp_path / "out")
    for command in (
        ["evaluate", str(run), "--split", "validation"],
        ["predict", str(run), images, "--out", out],
        ["train", f"resume={run}"],
    ):
        capsys.readouterr()
        assert "--allow their_nets.Tiny" in fails(*command)
        assert main([*command, "--allow", "their_nets.Tiny"]) == 0
