"""The parts of the data as the settings describe them, on a miniature."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from truemask.cli import main
from truemask.compose import compose_config
from truemask.data.collate import collate
from truemask.datasets import voc as voc_module
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.inference.predict_image import predict_image
from truemask.miniatures.writing import write_miniature
from truemask.runs import Run
from truemask.training.fit import train
from truemask.training.opening import open_parts
from truemask.training.settings import DataSettings
from truemask.training.setup import prepare
from truemask.training.testing import evaluate_run


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = write_miniature("voc2012", tmp_path_factory.mktemp("data") / "voc", images=40)
    return {"_target_": "truemask.datasets.voc.voc", "root": str(root)}


def opened(voc: dict[str, Any], **settings: Any) -> tuple[Parts, DataSettings]:
    return open_parts(DataSettings(dataset=voc, **settings), training=True, fetch=True)


def names_of(parts: Parts) -> dict[str, list[str]]:
    return {name: list(part.names) for name, part in parts.items()}


EDGES = {"void": "edge", "keep": ["edge"], "rest": "other"}
IN_ORDER = {"_target_": "truemask.data.splits.Ratio", "shares": [0.7, 0.1, 0.2], "shuffle": False}


def test_void_becomes_the_edge_and_all_else_is_not(voc) -> None:
    plain, _ = opened(voc)
    parts, _ = opened(voc, labels=EDGES)
    assert parts["train"].labels.names == ("other", "edge")
    for before, after in zip(plain["train"], parts["train"], strict=False):
        assert np.array_equal(np.asarray(before.mask) == 255, np.asarray(after.mask) == 1)
        assert set(np.unique(after.mask)) <= {0, 1}


def test_padding_is_ignored_though_void_is_a_class(voc) -> None:
    parts, _ = opened(voc, labels=EDGES)
    samples = [parts["train"][i] for i in range(6)]
    assert len({sample.mask.shape for sample in samples}) > 1
    batch = collate(samples, stride=16)
    inside = sum(sample.mask.numel() for sample in samples)
    assert int((batch.masks == 255).sum()) == batch.masks.numel() - inside > 0


def test_parts_in_order_are_cut_by_position(voc) -> None:
    parts, _ = opened(voc, split=IN_ORDER)
    whole = sorted(name for names in names_of(opened(voc)[0]).values() for name in names)
    assert [len(part) for part in parts.values()] == [28, 4, 8]
    assert [name for names in names_of(parts).values() for name in names] == whole


def test_a_saved_split_is_taken_whatever_the_rule(voc) -> None:
    parts, data = opened(voc, split=IN_ORDER)
    other = replace(data, split={**IN_ORDER, "shuffle": True})
    again, _ = open_parts(other, assignments=names_of(parts))
    assert names_of(again) == names_of(parts)
    assert np.array_equal(again["test"][3].image, parts["test"][3].image)


def test_a_number_of_classes_to_keep_becomes_their_names(voc) -> None:
    parts, data = opened(voc, labels={"keep": 3})
    assert data.labels is not None
    assert list(data.labels["keep"]) == list(parts["train"].labels.names)
    counts = np.zeros(256, np.int64)
    for sample in (opened(voc)[0]["train"][i] for i in range(len(parts["train"]))):
        counts += np.bincount(np.asarray(sample.mask).ravel(), minlength=256)
    all_names = opened(voc)[0]["train"].labels.names
    largest = sorted(sorted(range(21), key=lambda k: -counts[k])[:3])
    assert parts["train"].labels.names == tuple(all_names[k] for k in largest)
    again, _ = open_parts(data)
    assert again["train"].labels == parts["train"].labels


def test_training_images_are_resized_and_the_others_where_it_is_asked_for(voc) -> None:
    native, _ = opened(voc, resize=[32, 48])
    resized, _ = opened(voc, resize=[32, 48], evaluation_size="resized")
    assert native["train"][0].mask.shape == resized["train"][0].mask.shape == (32, 48)
    assert native["validation"][0].mask.shape != (32, 48)
    assert resized["validation"][0].mask.shape == (32, 48)
    judged, _ = open_parts(DataSettings(dataset=voc, resize=[32, 48]))
    assert judged["train"][0].mask.shape != (32, 48)


def test_some_of_a_part_are_the_same_every_time(voc) -> None:
    parts, data = opened(voc, subset={"train": 5})
    assert len(parts["train"]) == 5
    assert names_of(open_parts(data)[0]) == names_of(parts)
    assert any("5 of" in note for note in parts.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset": {"tset": 5}}, r"data\.subset\.tset: this data has no such part"),
        ({"labels": {"keep": 30}}, "30"),
        ({"split": {"_target_": "truemask.data.splits.Ratio", "group": "city"}}, "city"),
        ({"resize": [0, 5]}, r"data\.resize must be"),
        ({"evaluation_size": "resized"}, r"needs data\.resize"),
        ({"resize": [32, 32], "crop": [16, 16]}, r"data\.crop and data\.resize exclude"),
        ({"resize": [9000, 32]}, r"data\.resize may be up to 8192"),
        ({"labels": {"merge": {"x": [[1]]}}}, r"data\.labels\.merge\.x must be names"),
        ({"labels": {"merge": {1: ["cat"]}}}, r"data\.labels\.merge\.1 must be names"),
    ],
)
def test_what_cannot_be_is_one_line(voc, settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        opened(voc, **settings)


def test_generated_data_is_neither_parted_nor_cut() -> None:
    made = {"_target_": "truemask.datasets.textures.textures", "size": 32}
    for settings in ({"split": IN_ORDER}, {"subset": {"train": 2}}):
        with pytest.raises(UsageError, match="generated"):
            opened(made, **settings)


def test_a_run_that_exists_fetches_nothing(voc, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: Any, **options: Any) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(voc_module, "fetch", fetch)
    asking = {**voc, "download": True, "year": "2007"}
    with pytest.raises(AssertionError):
        opened(asking)
    with pytest.raises(UsageError, match="2007"):
        open_parts(DataSettings(dataset=asking))


@pytest.fixture(scope="module")
def small_run(voc, tmp_path_factory: pytest.TempPathFactory) -> Run:
    words = [
        "data=voc", f"data.dataset.root={voc['root']}", "data.labels={keep: 2}",
        "data.resize=[32,48]", "model.widths=[4,8]", "trainer.max_steps=2", "data.batch_size=4",
        f"runs={tmp_path_factory.mktemp('runs')}",
    ]  # fmt: skip
    return Run.open(Path(train(compose_config(words), console=Console(quiet=True)).run))


def test_a_model_that_resizes_is_scored_at_the_masks_own_size(small_run: Run) -> None:
    parts, _ = open_parts(DataSettings(**small_run.config["data"]), assignments=small_run.splits)
    pixels = sum(
        int((np.asarray(sample.mask) != 255).sum())
        for sample in (parts["validation"][i] for i in range(len(parts["validation"])))
    )
    assert np.sum(small_run.results["validation"].confusion) == pixels


def test_prediction_and_evaluation_agree_on_a_model_that_resizes(small_run: Run) -> None:
    parts, _ = open_parts(DataSettings(**small_run.config["data"]), assignments=small_run.splits)
    bundle = small_run.load_bundle()
    assert bundle.model.size == (32, 48)
    matrix = np.zeros((2, 2), np.int64)
    for sample in (parts["validation"][i] for i in range(len(parts["validation"]))):
        ids = np.asarray(predict_image(bundle, sample.image).ids)
        mask = np.asarray(sample.mask)
        assert ids.shape == mask.shape
        known = mask != 255
        np.add.at(matrix, (mask[known], ids[known]), 1)
    assert matrix.tolist() == small_run.results["validation"].confusion


def test_evaluate_takes_the_classes_that_were_settled(small_run: Run) -> None:
    split, result, _ = evaluate_run(
        small_run,
        split="validation",
        config=small_run.config,
        other_data=False,
        allow={},
        console=Console(quiet=True),
    )
    assert split == "validation"
    assert result.confusion == small_run.results["validation"].confusion


def test_by_attribute_there_are_scores_with_intervals(tmp_path: Path) -> None:
    root = write_miniature("bdd100k", tmp_path / "bdd", images=60)
    words = [
        "experiment=driving/base_32", f"data.dataset.root={root}", "model.widths=[4,8]",
        "data.split.shares=[0.4,0.3,0.3]", "trainer.max_steps=2", f"runs={tmp_path}",
    ]  # fmt: skip
    run = Run.open(Path(train(compose_config(words), console=Console(quiet=True)).run))
    areas = run.results["test"].subgroups["area"]
    assert set(areas) == {"city", "non-city"}
    for group in areas.values():
        assert group.images >= 5
        low, high = group.intervals["iou"]
        assert group.iou is not None
        assert low <= group.iou <= high


def test_whole_images_share_batches_by_size_padded_to_the_stride(voc) -> None:
    config = compose_config(["experiment=edges/weighted", f"data.dataset.root={voc['root']}"])
    prepared = prepare(config)
    train_part = prepared.parts["train"]
    assert prepared.sizes is not None
    assert list(prepared.sizes) == [
        sample.mask.shape for sample in map(train_part.__getitem__, range(28))
    ]
    assert prepared.stride == 16
    assert prepare({**config, "data": {**config["data"], "bucket": False}}).sizes is None


def test_on_other_data_the_run_s_own_parts_do_not_hold(
    voc, small_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.path, folder)
    config = Run(folder).config
    config["data"]["subset"] = {"validation": 1}
    Run(folder).write_config(config)
    other = shutil.copytree(voc["root"], tmp_path / "other")
    words = ["evaluate", str(folder), "--split", "validation", "--json"]
    assert main([*words, f"data.dataset.root={other}"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20
    assert main([*words, "data.subset={validation: 3}", f"data.dataset.root={other}"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
    assert main([*words, "data.subset={validation: 3}"]) == 2
    assert "keeps its parts" in capsys.readouterr().err


def test_a_run_without_its_split_is_not_resumed(small_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.path, folder)
    shutil.rmtree(folder / "splits")
    with pytest.raises(UsageError, match="splits is missing"):
        train(small_run.config, console=Console(quiet=True), resume=Run(folder))
