"""Runs with one fault each, made by hand from a sound one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from truemask.bundle import save_bundle
from truemask.checks.difference import check_difference
from truemask.checks.finding import Finding
from truemask.checks.position import constant_map, map_matrices, place_counts
from truemask.checks.run import check_run
from truemask.checks.tested import check_tested
from truemask.checks.trivial import compare, constant_matrices, trivial_score
from truemask.errors import UsageError
from truemask.images import RGB
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.per_image import Evaluation, load_parts, save_parts
from truemask.runs import Run

LABELS = LabelMap(names=("background", "crack"), values={0: 0, 1: 1})
NETWORK = {"_target_": "truemask.models.unet.UNet", "in_channels": 3, "out_channels": 1,
           "widths": [2, 4]}  # fmt: skip
BEST = 14


def evaluation(
    *, hit: float, invented: float = 0.01, images: int = 20, seed: int = 0
) -> Evaluation:
    """Images of 10,000 pixels with some 5 % of cracks, of which a share is found."""
    rng = np.random.default_rng(seed)
    cracks = rng.integers(200, 800, images)
    found = (cracks * np.clip(hit + rng.normal(0, 0.03, images), 0, 1)).astype(int)
    wrong = (invented * (10_000 - cracks)).astype(int)
    matrices = np.array(
        [[[10_000 - c - w, w], [c - f, f]] for c, f, w in zip(cracks, found, wrong, strict=True)]
    )
    return Evaluation(
        names=[f"image{i}" for i in range(images)],
        matrices=matrices,
        losses=np.zeros(images),
        attributes=[{}] * images,
        labels=LABELS,
    )


def model(seed: int) -> Segmenter:
    torch.manual_seed(seed)
    settings = {key: value for key, value in NETWORK.items() if key != "_target_"}
    return Segmenter(network=UNet(**settings), images=RGB)


def write_model(run: Run, *, seed: int, step: int | None) -> None:
    info = {"epoch": 1} | ({} if step is None else {"step": step})
    save_bundle(run.bundle_folder, model=model(seed), network=NETWORK, labels=LABELS, info=info)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A sound run, whose best validation is not the last."""
    run = Run.create(tmp_path_factory.mktemp("runs"), experiment="cracks")
    run.write_config(
        {
            "name": "cracks",
            "data": {"dataset": {"root": "/data/cracks"}},
            "trainer": {"monitor": "validation_iou", "eval_iterations": None},
        }
    )
    run.write_environment({"training": {"class_counts": {"background": 950, "crack": 50}}})
    run.write_labels(LABELS)
    parts = {name: evaluation(hit=0.8, seed=i) for i, name in enumerate(("validation", "test"))}
    best = parts["validation"].result(resamples=0).iou
    assert best is not None
    run.write_history(
        [
            {
                "epoch": i,
                "step": 10 * (i + 1),
                "learning_rate": 1e-3,
                "train_loss": 0.2 + np.exp(-i / 4),
                "validation_loss": 0.3 + np.exp(-i / 4),
                "validation_iou": best - 0.5 * np.exp(-i / 3) - (0.004 if i != BEST else 0),
            }
            for i in range(16)
        ]
    )
    write_model(run, seed=0, step=10 * (BEST + 1))
    run.checkpoints_folder.mkdir()
    torch.save({"step": {"model": model(0).state_dict()}}, run.best_checkpoint)
    save_parts(run.per_image_path, parts)
    run.write_results({name: part.result(resamples=0) for name, part in parts.items()})
    return run


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole.path, tmp_path / "run")
    return Run(tmp_path / "run")


def only(run: Run, code: str) -> Finding:
    (finding,) = check_run(run.path)
    assert finding.code == code
    return finding


def judge(run: Run, part: Evaluation) -> None:
    parts = load_parts(run.per_image_path) | {"test": part}
    save_parts(run.per_image_path, parts)
    run.write_results({name: part.result(resamples=0) for name, part in parts.items()})


def test_a_sound_run_has_no_finding(run: Run) -> None:
    assert check_run(run.path) == []


def test_a_run_that_was_killed_is_looked_at_as_far_as_it_goes(run: Run) -> None:
    for name in ("results.json", "per_image.npz"):
        (run.path / name).unlink()
    shutil.rmtree(run.bundle_folder)
    assert check_run(run.path) == []
    (run.path / "history.csv").unlink()
    assert check_run(str(run.path)) == []


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run"):
        check_run(tmp_path)


def test_the_last_weights_in_place_of_the_best(run: Run) -> None:
    write_model(run, seed=0, step=160)
    finding = only(run, "TM605")
    assert finding.evidence == {
        "tested_step": 160, "best_step": 150, "monitor": "validation_iou",
    }  # fmt: skip


def test_weights_that_do_not_say_their_step(run: Run) -> None:
    write_model(run, seed=0, step=None)
    assert only(run, "TM605").level == "warning"


@pytest.mark.parametrize("change", [1e-7, 1.0])
def test_one_weight_that_is_not_the_checkpoint_s(run: Run, change: float) -> None:
    state = model(0).state_dict()
    name = next(name for name in state if name.endswith("weight"))
    state[name].view(-1)[3] += change
    torch.save({"step": {"model": state, "average": None}}, run.best_checkpoint)
    assert only(run, "TM605").evidence["largest_difference"] == pytest.approx(change, rel=0.5)


def test_the_average_is_what_is_kept(run: Run) -> None:
    average = {f"model.{name}": tensor for name, tensor in model(0).state_dict().items()}
    content = {"step": {"model": model(1).state_dict(), "average": average}}
    torch.save(content, run.best_checkpoint)
    assert check_run(run.path) == []


def test_results_that_are_not_those_of_their_counts(run: Run) -> None:
    results = run.results
    results["test"].iou = 0.99
    run.write_results(results)
    assert only(run, "TM605").evidence["metric"] == "iou"
    judge(run, evaluation(hit=0.8, seed=1))
    results["test"] = evaluation(hit=0.9, seed=5).result(resamples=0)
    run.write_results(results)
    assert "counts" in only(run, "TM605").message


def test_a_validation_that_the_history_does_not_know(run: Run) -> None:
    parts = load_parts(run.per_image_path) | {"validation": evaluation(hit=0.5)}
    save_parts(run.per_image_path, parts)
    run.write_results({name: part.result(resamples=0) for name, part in parts.items()})
    assert "best row" in only(run, "TM605").message


@pytest.mark.parametrize("found", [0.0, 0.005])
def test_a_collapsed_model(run: Run, found: float) -> None:
    judge(run, evaluation(hit=found, invented=0))
    codes = [finding.code for finding in check_run(run.path)]
    assert codes == ["TM601", "TM604"] if found == 0 else codes[:1] == ["TM601"]


def test_a_model_that_is_no_better_than_everything_foreground(run: Run) -> None:
    judge(run, evaluation(hit=0.6, invented=0.9))
    finding = only(run, "TM604")
    assert finding.level == "error"
    assert finding.evidence["baseline"] == "always 'crack'"


def test_a_model_that_is_no_better_than_a_map(run: Run) -> None:
    part = load_parts(run.per_image_path)["test"]
    better = Evaluation(
        names=part.names,
        matrices=np.array([[[m[0].sum(), 0], [0, m[1].sum()]] for m in part.matrices]),
        losses=part.losses,
        attributes=part.attributes,
        labels=LABELS,
    )
    save_parts(run.trivial_path, {"test": better})
    assert only(run, "TM604").evidence["baseline"] == "the best constant map"


def test_an_accuracy_that_says_nothing_beside_an_iou_that_does(run: Run) -> None:
    judge(run, evaluation(hit=0.7, invented=0.05))
    assert only(run, "TM604").level == "note"


def test_a_name_that_contradicts_the_settings(run: Run) -> None:
    config = run.config | {"optimizer": {"_target_": "torch.optim.SGD", "momentum": 0.9}}
    run.write_config(config | {"name": "sgd"})
    assert only(run, "TM607").evidence["momentum"] == 0.9
    run.write_config(config | {"name": "cracks"})
    assert check_run(run.path) == []
    # A run that is called as its data says nothing of its settings.
    data = {"dataset": {"root": "/data/sgd"}}
    run.write_config(config | {"name": "sgd", "data": data})
    assert check_run(run.path) == []


def test_constant_predictions_count_what_they_would_have_hit() -> None:
    matrices = evaluation(hit=0.8).matrices
    total = constant_matrices(matrices, 1).sum(0)
    assert total[:, 0].sum() == 0
    assert total[1, 1] == matrices.sum(0)[1].sum()
    share = total[1, 1] / total.sum()
    assert compare(matrices, constant_matrices(matrices, 1), name="").trivial == pytest.approx(
        share
    )


def test_few_images_that_are_better_by_chance_are_a_warning() -> None:
    good, bad = [[450, 50], [50, 450]], [[100, 400], [400, 100]]  # everything "b" has an IoU of 0.5
    levels = {}
    for wrong in (1, 3, 8):
        matrices = np.array([good] * (12 - wrong) + [bad] * wrong)
        levels[wrong] = [f.level for f in trivial_score(matrices, names=("a", "b"))]
    assert levels == {1: [], 3: ["warning"], 8: ["error"]}


def test_few_images_that_are_worse_by_chance_are_a_warning_or_nothing() -> None:
    good, bad = [[450, 50], [50, 450]], [[100, 400], [400, 100]]  # everything "b" has an IoU of 0.5
    (found,) = trivial_score(np.array([good] * 3 + [bad] * 3), names=("a", "b"))
    low, high = found.evidence["interval_of_difference"]
    assert found.evidence["iou"] <= found.evidence["trivial"]
    assert (found.level, low < 0 < high) == ("warning", True)
    assert not list(trivial_score(np.array([good, bad, bad]), names=("a", "b")))
    constant = constant_matrices(np.array([good, bad, bad]), 1)
    assert [f.level for f in trivial_score(constant, names=("a", "b"))] == ["error"]


def test_the_best_map_of_three_bands() -> None:
    """Worked by hand: the sky is above the road, and cars are too rare at any place to be said."""
    rng = np.random.default_rng(0)
    masks = []
    for i in range(30):
        mask = np.zeros((50 + i, 80 - i), np.uint8)
        mask[len(mask) // 2 :] = 1
        top = rng.integers(len(mask) // 2, len(mask) - 5)
        mask[top : top + 5, 10:15] = 2
        mask[0] = 255
        masks.append(mask)
    counts = place_counts(masks, num_classes=3, grid=16)
    halves = [place_counts(part, num_classes=3, grid=16) for part in (masks[:11], masks[11:])]
    assert np.array_equal(counts, sum(halves))
    assert counts.sum() == sum((mask != 255).sum() for mask in masks)
    chosen = constant_map(counts)
    assert (chosen[:7] == 0).all()
    assert (chosen[9:] == 1).all()
    matrices = map_matrices(chosen, masks, num_classes=3)
    for mask, matrix in zip(masks, matrices, strict=True):
        assert matrix.sum(1).tolist() == [(mask == k).sum() for k in range(3)]
        assert matrix[2, 2] == 0
        assert matrix[0, 0] / matrix[0].sum() > 0.9


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
def test_the_map_of_a_rare_class_has_the_best_threshold(share: float) -> None:
    rng = np.random.default_rng(0)
    prior = share * np.linspace(0, 1, 32)[:, None] ** 2 * np.ones((1, 32))
    masks = [(rng.random((32, 32)) < prior).astype(np.uint8) for _ in range(100)]
    counts = place_counts(masks, num_classes=2, grid=32)
    frequent = counts[1] / counts.sum(0)

    def overlap(chosen: np.ndarray) -> float:
        hits = counts[1][chosen].sum()
        return hits / (counts.sum(0)[chosen].sum() + counts[1].sum() - hits)

    best = max(overlap(frequent >= value) for value in np.unique(frequent) if value > 0)
    assert overlap(constant_map(counts) == 1) == pytest.approx(best)


@pytest.mark.parametrize("wrap", ["", "module.", "model.network."])
def test_tested_weights_against_anybody_s_checkpoint(tmp_path: Path, wrap: str) -> None:
    net, other = model(0), model(1)
    state = {wrap + name: tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "best.pth")
    assert check_tested(net, tmp_path / "best.pth") == []
    (finding,) = check_tested(other, tmp_path / "best.pth")
    assert (finding.code, finding.level) == ("TM605", "error")
    (finding,) = check_tested(torch.nn.Conv2d(3, 1, 1), tmp_path / "best.pth")
    assert finding.level == "warning"


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": model(0)}, tmp_path / "whole.pth")
    with pytest.raises(UsageError, match="safely"):
        check_tested(model(0), tmp_path / "whole.pth")


def test_differences_of_two_runs(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    shutil.copytree(run.path, other.path)
    (finding,) = check_difference(run.path, other.path)
    assert (finding.code, finding.evidence["difference"]) == ("TM613", 0)
    judge(other, evaluation(hit=0.9, seed=1))
    assert check_difference(run.path, other.path) == []
    assert [f.code for f in check_difference(run.path, other.path, part="validation")] == ["TM613"]
    with pytest.raises(UsageError, match="no train part"):
        check_difference(run.path, other.path, part="train")
    judge(other, evaluation(hit=0.8, seed=4))
    with pytest.raises(UsageError, match="other masks"):
        check_difference(run.path, other.path)


def test_equal_models_are_told_apart_once_in_twenty() -> None:
    """The level of the test: two models whose images are scored alike but for noise."""
    rng = np.random.default_rng(0)
    apart = []
    for _ in range(100):
        hard = rng.normal(0.6, 0.15, 60)
        scores = [hard + rng.normal(0, 0.05, 60) for _ in range(2)]
        apart.append(not check_difference(*scores))
    assert 0.02 < np.mean(apart) < 0.1


def test_a_true_difference_that_pairing_shows() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0.6, 0.15, 100)
    assert check_difference(hard, hard + 0.02 + rng.normal(0, 0.02, 100)) == []
