"""The five projects: every trial is an experiment, every figure can be drawn, of what is there."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from analysis_material import evaluation
from PIL import Image
from rich.console import Console

from truemask.analysis.attention import attention_maps, overlay
from truemask.analysis.quantities import read_quantity
from truemask.bundle import save_bundle
from truemask.errors import UsageError
from truemask.images import RGB
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.projects.areas import area_difference
from truemask.projects.batch_statistics import batch_statistics
from truemask.projects.panels import over_time, predict, side_by_side
from truemask.projects.project import Chart, Listing, Panels
from truemask.projects.reproduce import PROJECTS
from truemask.projects.trials import Workshop
from truemask.runs import Run

UNET = {
    "_target_": "truemask.models.unet.UNet",
    "widths": [2, 4, 6],
    "attention": True,
    "in_channels": 3,
}


def give_bundle(run: Run, labels: LabelMap, *, size: tuple[int, int] | None = None) -> Segmenter:
    """Untrained weights of a small attention U-Net for a run."""
    torch.manual_seed(0)
    network = {**UNET, "out_channels": labels.num_logits}
    settings = {key: value for key, value in network.items() if key != "_target_"}
    model = Segmenter(network=UNet(**settings), images=RGB, size=size)
    save_bundle(run.bundle_folder, model=model, network=network, labels=labels, info={})
    return model


@pytest.mark.parametrize("name", PROJECTS)
def test_every_trial_is_an_experiment_that_composes(name, tmp_path):
    project = PROJECTS[name]
    shop = Workshop(
        runs=tmp_path,
        data=None,
        overrides=project.small,
        console=Console(quiet=True),
        needs_data=project.data is not None,
        small=True,
    )
    for trial in project.trials:
        assert shop.configuration(trial)["name"] == trial.name


@pytest.mark.parametrize("name", PROJECTS)
def test_without_runs_no_figure_fails(name):
    for figure in PROJECTS[name].figures:
        content = figure.draw({})
        assert content is None or figure.name == "sigmas"


@pytest.mark.parametrize("name", PROJECTS)
def test_every_figure_is_drawn_of_finished_runs(name, make_run):
    """Runs with three classes stand for all; pictures over time need a folder of their own."""
    project = PROJECTS[name]
    areas = [{"area": ("city", "non-city")[i % 2]} for i in range(12)]
    tested = evaluation(("road", "sky", "car"), attributes=areas)
    runs = {trial.name: make_run(name=trial.name, tested=tested) for trial in project.trials}
    for run in runs.values():
        give_bundle(run, tested.labels)
    for figure in project.figures:
        content = figure.draw(runs)
        if figure.name == "pictures":
            assert content is None
            continue
        assert isinstance(content, Chart | Panels | Listing), figure.name
        if isinstance(content, Chart):
            assert content.light != content.dark
            assert content.said


def test_published_numbers_are_those_of_the_write_ups():
    """A few of them, so that a slip of the pen shows."""
    found = {
        (project.name, trial.name, quantity): value
        for project in PROJECTS.values()
        for trial in project.trials
        for quantity, value in trial.published.items()
    }
    assert found["edges", "weighted", "test.iou"] == 0.1931
    assert found["edges", "unweighted", "test.iou"] == 0.0042
    assert found["driving", "best", "test.iou"] == 0.80
    assert found["cityscapes", "published", "validation.iou"] == 0.61
    assert found["benchmarks", "carvana", "test.pixel_accuracy"] == 0.9061
    assert found["benchmarks", "gta5", "validation.pixel_accuracy"] == 0.687
    assert found["textures", "adam_1e-3", "running_loss"] == 0.0145
    assert found["textures", "sgd_long", "running_loss"] == 0.03944
    assert len([key for key in found if key[0] == "textures"]) == 11


def test_the_difference_of_areas_is_between_different_images(make_run):
    areas = [{"area": "city"}] * 10 + [{"area": "non-city"}] * 10
    tested = evaluation(("a", "b", "c"), images=20, attributes=areas)
    value, (low, high) = area_difference(tested)

    def mean_iou(matrix):
        hits = np.diag(matrix)
        return np.mean(hits / (matrix.sum(0) + matrix.sum(1) - hits))

    city, other = (tested.matrices[part].sum(0) for part in (slice(0, 10), slice(10, 20)))
    assert value == pytest.approx(mean_iou(city) - mean_iou(other))
    assert low < value < high
    assert area_difference(evaluation(("a", "b"))) is None
    few = evaluation(("a", "b"), images=6, attributes=areas[7:13])
    assert area_difference(few)[1] is None


def test_attention_maps_are_those_of_the_gates(make_run):
    labels = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2})
    model = give_bundle(make_run(), labels).eval()
    image = torch.randint(0, 256, (3, 16, 24), dtype=torch.uint8)
    maps = attention_maps(model, image)
    assert len(maps) == 2
    assert {found.shape for found in maps} == {(16, 24)}
    assert all(0 < found.min() <= found.max() < 1 for found in maps)
    # The finest gate works at the size of the image: nothing is interpolated there.
    seen = []
    gates = [module for name, module in model.named_modules() if name.endswith("coefficients")]
    hook = gates[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        model(image[None])
    hook.remove()
    finest = max(seen, key=lambda found: found.shape[-1])
    if finest.shape[-2:] == (16, 24):
        assert np.allclose(maps[-1], finest[0, 0].numpy())
    assert not any(gate._forward_hooks for gate in gates)


@pytest.mark.parametrize("size", [None, (8, 12)])
def test_attention_maps_fit_odd_and_resized_images(make_run, size):
    labels = LabelMap(names=("a", "b"), values={0: 0, 1: 1})
    model = give_bundle(make_run(), labels, size=size)
    model.train()
    image = torch.randint(0, 256, (3, 13, 21), dtype=torch.uint8)
    maps = attention_maps(model, image)
    assert {found.shape for found in maps} == {(13, 21)}
    assert model.training
    drawn = overlay(image.permute(1, 2, 0).numpy(), maps[0])
    assert (drawn.shape, drawn.dtype) == ((13, 21, 3), np.uint8)


def test_the_same_images_are_predicted_by_each_run(make_run):
    tested = evaluation(("a", "b"))
    runs = {name: make_run(name=name, tested=tested) for name in ("one", "two")}
    for run in runs.values():
        give_bundle(run, tested.labels)
    panels = side_by_side(runs, most=3)
    assert len(panels.panels) == 3
    assert [name for name, _ in panels.panels[0].pictures] == ["Image", "Truth", "one", "two"]
    assert side_by_side({"one": runs["one"]}) is None
    bundle = runs["one"].load_bundle()
    image = runs["one"].samples[0].image
    assert predict(bundle, image).shape == image.shape[:2]


def test_pictures_over_time_come_in_the_order_of_their_steps(make_run):
    run = make_run()
    folder = run.path / "pictures"
    folder.mkdir()
    for name in ("image", "truth", "step-0000200", "step-0001000", "step-0000030", "other"):
        Image.new("RGB", (40, 20)).save(folder / f"{name}.png")
    names = [panel.name for panel in over_time(run).panels]
    assert names == ["Image", "Truth", "Step 30", "Step 200", "Step 1,000"]
    for step in range(2000, 5000, 100):
        Image.new("RGB", (40, 20)).save(folder / f"step-{step:07d}.png")
    names = [panel.name for panel in over_time(run).panels]
    assert len(names) == 14
    assert names[-1] == "Step 4,900"
    (folder / "step-0004900.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"step-0004900\.png cannot be read"):
        over_time(run)


def test_batch_statistics_are_those_of_batches_of_eight(tmp_path):
    """Trained for three steps, the two modes differ, and neither changes the run's weights."""
    from analysis_material import SMALL

    from truemask.compose import compose_config
    from truemask.training.fit import train

    words = ["experiment=textures/demo", *SMALL, "model.shared_batch_norm=true"]
    config = {**compose_config(words), "runs": str(tmp_path)}
    run = Run.open(_folder(train(config, console=Console(quiet=True)).run))
    before = (run.bundle_folder / "model.safetensors").read_bytes()
    batch_statistics(run, Console(quiet=True))
    assert (run.bundle_folder / "model.safetensors").read_bytes() == before
    found = read_quantity(run, "batch-statistics.mean_iou")
    assert 0 <= found.value <= 1
    assert found.interval is not None

    # Held against the loop written out.
    bundle = run.load_bundle()
    bundle.model.train()
    from truemask.datasets.textures import textures as make

    options = {k: v for k, v in run.config["data"]["dataset"].items() if k != "_target_"}
    test = make(**options)["test"]
    samples = [test[i] for i in range(len(test))]
    with torch.no_grad():
        images = torch.stack([torch.as_tensor(sample.image) for sample in samples])
        logits = bundle.model(images.as_subclass(torch.Tensor))
    predicted = (logits[:, 0] > 0).long().numpy()
    truth = np.stack([np.asarray(sample.mask) for sample in samples])
    ious = [
        ((predicted == k) & (truth == k)).sum() / ((predicted == k) | (truth == k)).sum()
        for k in (0, 1)
    ]
    assert len(samples) == 6
    assert found.value == pytest.approx(np.mean(ious))


def _folder(path: str):
    from pathlib import Path

    return Path(path)


def test_the_grid_of_textures_holds_two_rows_of_four():
    sigmas = next(figure for figure in PROJECTS["textures"].figures if figure.name == "sigmas")
    panels = sigmas.draw({}).panels
    assert [len(panel.pictures) for panel in panels] == [5, 5]
    assert isinstance(panels, tuple)
    assert isinstance({}, Mapping)
