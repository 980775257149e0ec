"""`truemask explain` on trained runs: an attention U-Net on driving scenes, and a binary model."""

import contextlib
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from truemask.analysis import explain as module
from truemask.analysis.attention import attention_maps
from truemask.analysis.explain_words import position_words
from truemask.bundle import load_bundle
from truemask.cli import main
from truemask.evaluation import evaluate
from truemask.inference.predict_image import predict_image
from truemask.metrics.calibration import BINS
from truemask.miniatures.writing import write_miniature
from truemask.results import PartResult
from truemask.runs import Run

FAST = ("trainer.max_epochs=3", "data.batch_size=4", "data.num_workers=0")
DRIVING = (
    "experiment=driving/attention_dropout_0", "model.widths=[4,8]", "data.resize=[48,64]",
    "data.split.shares=[0.5,0.2,0.3]", "trainer.pictures=2",
)  # fmt: skip


def trained(root: Path, *words: str) -> Run:
    assert main(["train", *words, *FAST, f"runs={root / 'runs'}"]) == 0
    (found,) = (root / "runs").rglob("config.yaml")
    return Run(found.parent)


@pytest.fixture(scope="module")
def driving(tmp_path_factory) -> Run:
    root = tmp_path_factory.mktemp("driving")
    write_miniature("bdd100k", root / "data", images=30, seed=0)
    return trained(root, *DRIVING, f"data.dataset.root={root / 'data'}")


@pytest.fixture(scope="module")
def cracks(tmp_path_factory) -> Run:
    """Two classes, and no test part."""
    root = tmp_path_factory.mktemp("cracks")
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
        mask = np.zeros((24, 32), np.uint8)
        mask[3 + i % 5 : 14, 4:20] = 1
        image[mask == 1] //= 3
        folder = root / "photos" / ("val" if i % 2 else "train")
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"p{i:02d}.png")
    return trained(root, str(root / "photos"), "model.widths=[4,8]", "data.crop=[16,16]")


def explained(run: Run, *words: str) -> dict:
    assert main(["explain", str(run.path), *words]) == 0
    return json.loads((run.path / "explanation.json").read_text())


@pytest.fixture(autouse=True)
def _drawn(request, monkeypatch):
    """Only the tests of the page draw it: the charts take most of the time."""
    if "shown" not in request.node.name:
        monkeypatch.setattr(module, "page_of", lambda *args, **more: "a page")


@pytest.fixture
def copied(tmp_path):
    """A copy of a run that a test may change."""

    def copy(run: Run) -> Run:
        shutil.copytree(run.path, tmp_path / "run")
        return Run(tmp_path / "run")

    return copy


def test_the_counts_are_those_of_evaluate(driving, capsys):
    found = explained(driving)
    scores = PartResult.from_json(found["scores"])
    assert scores.confusion == driving.results["test"].confusion
    assert main(["evaluate", str(driving.path), "--split", "test", "--json"]) == 0
    evaluated = json.loads((driving.path / "evaluation-test.json").read_text())
    assert found["scores"] == evaluated
    # So are the figures by attribute, with their intervals.
    subgroups = driving.results["test"].subgroups
    assert subgroups
    assert scores.subgroups == subgroups
    assert not any("not those of the run's results" in note for note in found["notes"])
    matrix = np.array(scores.confusion)
    pixels, wrong = int(matrix.sum()), int(matrix.sum() - np.trace(matrix))
    assert sum(item["pixels"] for item in found["borders"]) == pixels
    assert sum(item["wrong"] for item in found["borders"]) == wrong
    assert sum(item["pixels"] for item in found["calibration"]["bins"]) == pixels
    assert sum(item["pixels"] for item in found["sizes"]) == pixels
    assert found["calibration"]["accuracy"] == pytest.approx(scores.pixel_accuracy)
    predicted = matrix.sum(0).tolist()
    assert [item["pixels"] for item in found["calibration"]["per_class"]] == predicted
    for item in found["confusions"]:
        cell = [found["classes"].index(item[key]) for key in ("truth", "prediction")]
        assert item["pixels"] == matrix[tuple(cell)]
        assert item["share_of_wrong"] == pytest.approx(item["pixels"] / wrong)
        assert item["images"]


def test_everything_is_said_and_shown(driving, capsys):
    found = explained(driving)
    printed = capsys.readouterr().out
    for text in found["said"].values():
        assert text in printed
    page = (driving.path / "explanation.html").read_text(encoding="utf-8")
    for section in ("confusions", "places", "sizes", "calibration", "attributes", "attention"):
        assert f'<section id="{section}">' in page
    assert [frame["epoch"] for frame in found["frames"]] == [0, 1, 2]
    assert page.count("data-frame=") == 3
    assert "://" not in page  # it loads nothing
    assert 'href="explanation.html"' in (driving.path / "report.html").read_text(encoding="utf-8")


def test_attention_is_that_of_the_gates(driving):
    found = explained(driving, "--split", "validation")
    bundle = driving.load_bundle()
    assert len(found["attention"]) == 1  # a gate a level but the deepest
    assert len(found["shown"]) == 3
    config = driving.config
    opened = module.open_run(driving, config=config, allow={}, console=None)
    part = opened.parts["validation"]
    place = {name: index for index, name in enumerate(part.names)}
    sums, pixels = np.zeros(5), np.zeros(5)
    for name in found["shown"]:
        sample = part[place[name]]
        (gate,) = attention_maps(bundle.model, sample.image.as_subclass(torch.Tensor))
        mask = np.asarray(sample.mask)
        for k in range(5):
            sums[k] += gate[mask == k].sum()
            pixels[k] += (mask == k).sum()
    for k, name in enumerate(found["classes"]):
        expected = None if pixels[k] == 0 else pytest.approx(sums[k] / pixels[k], abs=1e-4)
        assert found["attention"][0]["per_class"][name] == expected


def test_images_are_named(driving, capsys):
    name = driving.splits["test"][0]
    found = explained(driving, "--show", name)
    assert found["shown"] == [name]
    assert main(["explain", str(driving.path), "--show", "nobody"]) == 2
    assert "--show nobody: there is no such image" in capsys.readouterr().err


def test_some_images_are_chosen_by_a_seed_and_said(driving):
    found = explained(driving, "--images", "4")
    assert (found["images"], found["of"], found["seed"]) == (4, len(driving.splits["test"]), 0)
    assert "4 of" in found["notes"][0]
    assert "seed 0" in found["notes"][0]
    assert found["calibration"]["interval"] is None
    again = explained(driving, "--images", "4")
    assert again == found


def test_one_image_is_enough(cracks):
    found = explained(cracks, "--images", "1")
    assert found["images"] == 1
    assert found["attention"] == []
    assert found["said"]["attention"] == "This model has no attention gates."
    assert found["borders"][0]["interval"] is None


# Calibration.


@pytest.mark.parametrize("name", ["driving", "cracks"])
def test_a_temperature_changes_probabilities_and_no_mask(name, request, copied):
    run = copied(request.getfixturevalue(name))
    before, weights = run.load_bundle(), (run.bundle_folder / "model.safetensors").read_bytes()
    plain = explained(run)
    found = explained(run, "--calibrate")
    fit = found["fit"]
    after = run.load_bundle()
    assert fit["part"] == "validation"
    assert fit["images"] == len(run.splits["validation"])
    assert after.temperature == fit["temperature"] == found["calibrated"]["temperature"]
    assert fit["after"] <= fit["before"]
    assert (run.bundle_folder / "model.safetensors").read_bytes() == weights
    # The scores and the calibration of the plain logits are what they were.
    assert found["scores"] == plain["scores"]
    assert found["calibration"] == plain["calibration"]
    assert plain["calibrated"] is None

    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    cold = predict_image(before, image, probabilities=True)
    warm = predict_image(after, image, probabilities=True)
    assert (cold.ids == warm.ids).all()
    assert not torch.equal(cold.probabilities, warm.probabilities)
    # What is softened at a temperature: p^(1/T), scaled to sum to 1.
    powers = cold.probabilities.double() ** (1 / after.temperature)
    expected = powers / powers.sum(0)
    torch.testing.assert_close(warm.probabilities.double(), expected, atol=4e-3, rtol=0)

    kept = explained(run)  # the bundle keeps it, and it is not fitted again
    assert kept["fit"] is None
    assert kept["calibrated"] == found["calibrated"]
    undone = explained(run, "--calibrate", "off")
    assert run.load_bundle().temperature == 1.0
    assert undone["calibrated"] is None


def test_the_test_part_is_not_asked_for_a_temperature(driving, copied, monkeypatch):
    run = copied(driving)
    asked = []
    evaluated = module.OpenedRun.evaluate

    def watch(self, split, **more):
        asked.append((split, type(more["observe"]).__name__))
        return evaluated(self, split, **more)

    monkeypatch.setattr(module.OpenedRun, "evaluate", watch)
    explained(run, "--calibrate")
    assert asked[:2] == [("validation", "Sampled"), ("test", "Tally")]


def test_a_temperature_fitted_on_what_is_shown_is_said(cracks, copied):
    run = copied(cracks)
    assert "test" not in run.splits
    found = explained(run, "--calibrate")
    assert any("fitted on these very images" in note for note in found["notes"])


def test_the_calibration_is_that_of_a_plain_loop(cracks):
    found = explained(cracks)
    bundle = cracks.load_bundle()
    opened = module.open_run(cracks, config=cracks.config, allow={}, console=None)
    bins = np.zeros((BINS, 3))

    def observe(seen):
        foreground = 1 / (1 + np.exp(-seen.logits[0].double().numpy()))
        confidence = np.maximum(foreground, 1 - foreground)
        right = (seen.ids == seen.truth).numpy()
        for m in range(BINS):
            inside = (confidence > m / BINS) & (confidence <= (m + 1) / BINS)
            bins[m] += (inside.sum(), confidence[inside].sum(), right[inside].sum())

    evaluate(bundle.model, opened.parts["validation"], labels=bundle.labels, observe=observe)
    error = (np.abs(bins[:, 1] - bins[:, 2])).sum() / bins[:, 0].sum()
    assert found["calibration"]["error"] == pytest.approx(error, abs=1e-4)


# What can go wrong.


@contextlib.contextmanager
def interrupted(after: int):
    """Ctrl-C at the image of that number."""
    seen = []

    def stop(self, image):
        seen.append(image.sample.name)
        if len(seen) == after:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Tally, "__call__", stop)
        yield


def test_ctrl_c_leaves_all_as_it_was(driving, copied, capsys):
    run = copied(driving)
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with interrupted(2):
        assert main(["explain", str(run.path), "--calibrate"]) == 1
    assert "Stopped." in capsys.readouterr().err
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_other_data_is_said_and_leaves_the_run_s_own_page(cracks, copied, tmp_path):
    run = copied(cracks)
    own = explained(run)
    shutil.copytree(run.config["data"]["dataset"]["root"], tmp_path / "other")
    other = explained(run, f"data.dataset.root={tmp_path / 'other'}")
    assert other == own
    (file,) = run.path.glob("explanation-on-other-*.json")
    found = json.loads(file.read_text())
    assert found["page"] == str(file.with_suffix(".html"))
    assert Path(found["page"]).is_file()
    assert found["notes"] == [
        f"These are images of {tmp_path / 'other'}, not of the run's own data."
    ]
    run.discard_results()
    assert not list(run.path.glob("explanation*"))


def test_errors_in_two_cells_of_one_place_are_told_apart():
    said = position_words([[0.1] * 12] * 7 + [[0.1] * 10 + [0.0, 0.9]])
    assert said.count("bottom right") == 1
    assert "also there" in said


def test_a_run_without_its_data(driving, copied, capsys):
    run = copied(driving)
    config = run.config
    config["data"]["dataset"]["root"] = str(run.path / "gone")
    run.write_config(config)
    assert main(["explain", str(run.path)]) == 2
    line = capsys.readouterr().err.strip()
    assert line.count("\n") == 0
    assert str(run.path / "gone") in line


def test_a_calibration_can_be_taken_back_without_the_data(driving, copied, capsys):
    run = copied(driving)
    explained(run, "--calibrate")
    config = run.config
    config["data"]["dataset"]["root"] = str(run.path / "gone")
    run.write_config(config)
    capsys.readouterr()
    assert main(["explain", str(run.path), "--calibrate", "off"]) == 0
    assert load_bundle(run.bundle_folder).temperature == 1.0
    said = capsys.readouterr().out
    assert "temperature is 1 again" in said
    assert f"{run.explanation_path} is of before" in said
    assert str(run.path / "gone") in said
    assert main(["explain", str(run.path), "--calibrate", "off", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["temperature"] == 1.0
    assert main(["explain", str(run.path), "--calibrate"]) == 2


def test_a_run_that_was_killed_is_looked_into_and_said(driving, copied, capsys):
    run = copied(driving)
    run.discard_results()
    found = explained(run)
    epoch = load_bundle(run.bundle_folder).info["epoch"] + 1
    assert (
        f"not come to its end: these are its best weights so far, of epoch {epoch}."
        in (found["notes"][0])
    )
    assert capsys.readouterr().err.count("Warning: The training has not come to its end") == 1
    assert main(["evaluate", str(run.path)]) == 0
    assert capsys.readouterr().err.count("Warning: The training has not come to its end") == 1
    assert found["scores"]["confusion"] == driving.results["test"].confusion
    assert not run.report_path.exists()


def test_a_run_without_weights(driving, copied, capsys):
    run = copied(driving)
    shutil.rmtree(run.bundle_folder)
    for words in ([], ["--calibrate"], ["--calibrate", "off"]):
        assert main(["explain", str(run.path), *words]) == 2
        assert "has no weights yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "tests"], "--split is 'tests'"),
        (["--split", "test"], "this data has no test part"),
        (["--images", "0"], "--images is 0"),
        (["--show", "p01"], "this model has no gates"),
        (["--calibrate", "yes"], "--calibrate is 'yes'"),
        (["trainer.max_epochs=3"], "changes nothing here"),
        (["--calibrate", "on", "data.dataset.root=elsewhere"], "leave data.* out"),
    ],
)
def test_wrong_words(cracks, capsys, words, said):
    assert main(["explain", str(cracks.path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0


def test_other_weights_take_the_explanation_away(driving, copied):
    run = copied(driving)
    explained(run)
    run.discard_results()
    assert not (run.path / "explanation.json").exists()
    assert not run.explanation_path.exists()


def test_a_damaged_strip_is_one_line(driving, copied, capsys):
    run = copied(driving)
    (run.path / "pictures" / "truth.png").write_bytes(b"no picture")
    assert main(["explain", str(run.path)]) == 2
    assert "truth.png cannot be read" in capsys.readouterr().err
