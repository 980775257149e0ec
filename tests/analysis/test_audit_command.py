"""`truemask audit` on a run: its files, folds that have not seen what they judge, what follows."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from truemask.cli import main
from truemask.runs import Run, newest

QUICK = [
    "model.widths=[4,8]", "trainer.max_steps=6", "data.crop=[32,32]", "trainer.threads=1",
    "trainer.eval_interval=5", "checks.enabled=false", "data.num_workers=0",
]  # fmt: skip


def write_photos(root: Path, *, seed: int = 0) -> Path:
    """20 small images of three classes, parted 12 to 4 to 4; a class is a brightness."""
    random = np.random.default_rng(seed)
    for part, count in (("train", 12), ("val", 4), ("test", 4)):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for index in range(count):
            mask = np.kron(random.integers(0, 3, (3, 4)), np.ones((14, 14))).astype(np.uint8)
            image = random.integers(0, 40, (*mask.shape, 3)) + 100 * mask[..., None]
            name = f"{part}{index}.png"
            Image.fromarray(image.astype(np.uint8)).save(root / part / "images" / name)
            Image.fromarray(mask).save(root / part / "masks" / name)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("audited")
    data = write_photos(root / "photos")
    assert main(["train", str(data), "name=photos", f"runs={root / 'runs'}", *QUICK]) == 0
    return newest(root / "runs")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_an_audit_leaves_a_list_a_result_and_a_page(run, capsys) -> None:
    assert main(["audit", str(run.path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    folder = run.path / "audit"
    held = {name for part in ("validation", "test") for name in run.splits.get(part, [])}
    assert {image["name"] for image in result["images"]} == held
    assert [row["name"] for row in rows(folder / "audit.csv") if row["what"] == "image"] == [
        image["name"] for image in result["images"]
    ]
    assert any("chose the best epoch" in note for note in result["notes"])
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert all(name in page for name in held)
    assert not re.search(r'(src|href)="https?:', page)


def test_the_training_part_needs_folds(run, capsys) -> None:
    assert main(["audit", str(run.path), "--split", "train"]) == 2
    assert "--folds 5" in capsys.readouterr().err


def test_wrong_options_are_one_line_each(run, tmp_path: Path, capsys) -> None:
    for words, message in (
        (["--split", "x"], "--split is 'x'"),
        (["--folds", "1"], "--folds is 1"),
        (["--threshold", "0"], "--threshold is 0"),
        (["--folds", "2", "data.num_workers=0"], "leave 'data.num_workers=0' out"),
        (["trainer.threads=1"], "'trainer.threads=1' changes nothing here"),
        (["data.dataset.root=/nowhere"], "/nowhere"),
        (["--folds", "2", "--split", "validation"], "--folds is for the training part"),
    ):
        assert main(["audit", str(run.path), "--out", str(tmp_path), *words]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert message in lines[0]


def test_other_data_leaves_the_audit_of_the_run_s_own(run, tmp_path: Path, capsys) -> None:
    data = write_photos(tmp_path / "other", seed=1)
    assert main(["audit", str(run.path)]) == 0
    before = {f.name: f.read_bytes() for f in (run.path / "audit").iterdir() if f.is_file()}
    capsys.readouterr()
    assert main(["audit", str(run.path), f"data.dataset.root={data}", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("not of the run's own data" in note for note in notes)
    assert not any("chose the best epoch" in note for note in notes)
    after = {f.name: f.read_bytes() for f in (run.path / "audit").iterdir() if f.is_file()}
    assert after == before
    (other,) = run.path.glob("audit-on-other-*")
    assert (other / "audit.csv").exists()


def test_too_many_folds_leave_nothing_behind(run, tmp_path: Path, capsys) -> None:
    out = tmp_path / "audit"
    assert main(["audit", str(run.path), "--folds", "40", "--out", str(out)]) == 2
    assert "--folds is 40, but the training part has only" in capsys.readouterr().err
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("name", "text"),
    [("audit.html", "mine"), ("audit.json", '{"mine": 1}'), ("audit.json", "mine")],
)
def test_nothing_foreign_is_overwritten(run, tmp_path: Path, capsys, name, text) -> None:
    (tmp_path / name).write_text(text)
    assert main(["audit", str(run.path), "--out", str(tmp_path)]) == 2
    assert "no audit made it" in capsys.readouterr().err
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, text)]


def test_folds_judge_what_they_have_not_seen_and_a_training_goes_on_without_it(
    run, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "audit"
    assert main(["audit", str(run.path), "--folds", "2", "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    train = run.splits["train"]
    names = [image["name"] for image in result["images"] if image["part"] == "train"]
    assert sorted(names) == sorted(train)
    folds = [newest(out / "folds-2" / f"fold-{k}") for k in (1, 2)]
    seen = [set(fold.splits["train"]) for fold in folds]
    assert seen[0] | seen[1] == set(train)
    assert not seen[0] & seen[1]
    assert all(fold.splits["validation"] == run.splits["validation"] for fold in folds)

    # A second audit trains nothing, and an edited list is kept.
    before = [fold.path for fold in folds]
    edited = rows(out / "audit.csv")
    for row in edited:
        row["flagged"] = "no"
    first = next(row for row in edited if row["what"] == "image" and row["part"] == "train")
    first["flagged"] = "yes"
    box = {key: first[key] for key in ("part", "name", "image_width", "image_height")}
    edited.append(
        dict.fromkeys(first, "") | box
        | {"what": "region", "flagged": "yes", "left": "2", "top": "3", "width": "9", "height": "7"}
    )  # fmt: skip
    with (out / "audit.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(first))
        writer.writeheader()
        writer.writerows(edited)
    text = (out / "audit.csv").read_text(encoding="utf-8")
    assert main(["audit", str(run.path), "--folds", "2", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == result["images"]
    assert [newest(out / "folds-2" / f"fold-{k}").path for k in (1, 2)] == before
    (kept,) = out.glob("audit-until-*.csv")
    assert kept.read_text(encoding="utf-8") == text

    # The list, as somebody edited it, is one setting away from a training without what it flags.
    dataset = run.config["data"]["dataset"]["root"]
    words = ["train", dataset, *QUICK]
    runs = tmp_path / "runs"
    assert main([*words, f"data.exclude={kept}", "name=less", f"runs={runs}"]) == 0
    less = newest(runs / "less")
    assert set(train) - set(less.splits["train"]) == {first["name"]}
    assert main([*words, f"data.ignore_regions={kept}", "name=gaps", f"runs={runs}"]) == 0
    gaps = newest(runs / "gaps")
    assert gaps.splits == run.splits
    assert gaps.config["data"]["ignore_regions"]["file"] == str(kept)
    # What judges is as it was.
    assert gaps.results["validation"].images == run.results["validation"].images
    counts = [sum(map(sum, r.results["validation"].confusion)) for r in (gaps, run)]
    assert counts[0] == counts[1]


def test_the_settings_are_refused_in_one_line_where_the_list_does_not_fit(
    run, tmp_path: Path, capsys
) -> None:
    dataset = run.config["data"]["dataset"]["root"]
    file = tmp_path / "list.csv"
    file.write_text("name\nnobody\n", encoding="utf-8")
    words = [dataset, f"runs={tmp_path}", *QUICK]
    assert main(["train", *words, f"data.exclude={file}"]) == 2
    assert "no image called nobody" in capsys.readouterr().err
    assert main(["train", *words, f"data.exclude={tmp_path / 'none.csv'}"]) == 2
    assert "none.csv" in capsys.readouterr().err


def test_a_run_of_generated_textures_has_nobody_s_labels(tmp_path: Path, capsys) -> None:
    words = ["data.dataset.size=16", "trainer.max_steps=4", f"runs={tmp_path}", "name=t"]
    words += ["data.dataset.train=8", "data.dataset.validation=4", "data.dataset.test=4"]
    assert main(["train", *words, "trainer.threads=1", "checks.enabled=false"]) == 0
    assert main(["audit", str(newest(tmp_path).path)]) == 2
    assert "generated" in capsys.readouterr().err


def test_a_single_image_makes_a_page(tmp_path: Path, capsys) -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 1)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            name = f"{part}{index}.png"
            Image.fromarray(pixels).save(tmp_path / "data" / part / "images" / name)
            mask = (pixels[..., 0] > 127).astype(np.uint8)
            Image.fromarray(mask).save(tmp_path / "data" / part / "masks" / name)
    words = ["model.widths=[4,8]", "trainer.max_steps=3", "data.crop=null", "checks.enabled=false"]
    runs = tmp_path / "runs"
    assert main(["train", str(tmp_path / "data"), *words, f"runs={runs}", "name=one"]) == 0
    path = newest(runs).path
    capsys.readouterr()
    assert main(["audit", str(path)]) == 0
    assert "0 of 1 label flagged" in capsys.readouterr().out
    page = (path / "audit" / "audit.html").read_text()
    assert ">1 image</td>" in page
    assert "None of 1 label stands out" in page
    # The run was planned, and a retraining must differ in its labels alone.
    assert f"truemask train SAME_ARGUMENTS experiment={path / 'plan.yaml'} data.exclude=" in page
