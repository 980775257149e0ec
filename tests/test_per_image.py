import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from same_evaluations import assert_same
from truemask.errors import UsageError
from truemask.labels import LabelMap
from truemask.per_image import Evaluation, load_parts, save_parts
from truemask.results import PartResult

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2, 9: 255})
BINARY = LabelMap(names=("background", "crack"), values={0: 0, 255: 1})
SCALARS = {"iou", "dice", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"}


def random_evaluation(*, names, labels=LABELS, seed=0, attributes=None):
    rng = np.random.default_rng(seed)
    classes = labels.num_classes
    return Evaluation(
        names=names,
        matrices=rng.integers(0, 100, size=(len(names), classes, classes)),
        losses=rng.random(len(names)),
        attributes=[{}] * len(names) if attributes is None else attributes,
        labels=labels,
    )


# Merging


@given(
    parts=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    order=st.permutations(range(4)),
    nested=st.booleans(),
)
def test_parts_merged_in_any_order_are_the_whole(parts, order, nested):
    names = list("hcafbdeg")
    attributes = [{"scene": name} for name in names]
    whole = random_evaluation(names=names, attributes=attributes)

    def part(number):
        chosen = [name for name in names if parts[names.index(name)] == number]
        places = [whole.names.index(name) for name in chosen]
        return Evaluation(
            names=chosen,
            matrices=whole.matrices[places],
            losses=whole.losses[places],
            attributes=[whole.attributes[i] for i in places],
            labels=LABELS,
        )

    a, b, c, d = (part(number) for number in order)
    merged = a.merge(b).merge(c.merge(d)) if nested else a.merge(b).merge(c).merge(d)
    assert_same(merged, whole)
    assert merged.result(resamples=20) == whole.result(resamples=20)


def test_what_must_not_be_merged_is_refused():
    first, second = random_evaluation(names=["a", "b"]), random_evaluation(names=["b", "c"])
    with pytest.raises(UsageError, match="two images are called 'b'"):
        first.merge(second)
    with pytest.raises(UsageError, match="different label maps"):
        first.merge(random_evaluation(names=["c"], labels=BINARY))


def test_building_one_sorts_and_copies():
    matrices = np.arange(18).reshape(2, 3, 3)
    attributes = [{"n": "b"}, {"n": "a"}]
    evaluation = Evaluation(
        names=["b", "a"],
        matrices=matrices,
        losses=np.array([1.0, 2.0]),
        attributes=attributes,
        labels=LABELS,
    )
    matrices[:] = 0
    attributes[0]["n"] = "changed"
    assert evaluation.names == ("a", "b")
    assert evaluation.matrices[0, 0].tolist() == [9, 10, 11]
    assert evaluation.losses.tolist() == [2, 1]
    assert evaluation.attributes == ({"n": "a"}, {"n": "b"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrices": np.zeros((2, 2, 2), dtype=np.int64)}, r"int64 of shape \(2, 3, 3\)"),
        ({"matrices": np.zeros((2, 3, 3))}, "got float64"),
        ({"matrices": np.full((2, 3, 3), -1)}, "negative count"),
        ({"losses": np.zeros(3)}, "as many losses and attributes"),
        ({"attributes": [{}]}, "and 1 attributes"),
        ({"names": ["a", "a"]}, "two images are called 'a'"),
    ],
)
def test_contents_that_do_not_fit_each_other_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(random_evaluation(names=["a", "b"]), **change)


# Scoring


def test_the_result_is_that_of_the_sum_of_all_matrices():
    evaluation = random_evaluation(names=list("abcde"))
    result = evaluation.result(resamples=50)
    total = evaluation.matrices.sum(0)
    assert result.images == 5
    assert result.confusion == total.tolist()
    hits, union = np.diag(total), total.sum(0) + total.sum(1) - np.diag(total)
    assert result.iou_per_class == pytest.approx(dict(zip(LABELS.names, hits / union, strict=True)))
    assert result.iou == pytest.approx(np.mean(hits / union))
    assert result.pixel_accuracy == pytest.approx(hits.sum() / total.sum())
    assert result.recall_per_class["road"] == pytest.approx(hits[1] / total[1].sum())
    assert result.precision_per_class["road"] == pytest.approx(hits[1] / total[:, 1].sum())
    assert result.f1_per_class == result.dice_per_class
    assert result.loss == pytest.approx(evaluation.losses.mean())


def test_intervals_are_of_all_single_figures_and_hold_them():
    result = random_evaluation(names=[str(i) for i in range(30)]).result()
    per_class = {
        f"{metric}.{name}"
        for metric in ("iou_per_class", "dice_per_class")
        for name in LABELS.names
    }
    assert set(result.intervals) == SCALARS | {"loss"} | per_class
    for key, (low, high) in result.intervals.items():
        metric, _, name = key.partition(".")
        value = getattr(result, metric)
        assert low < (value[name] if name else value) < high, key


def test_the_seed_decides_the_intervals_and_nothing_else():
    evaluation = random_evaluation(names=list("abcdef"))
    first, again, other = (evaluation.result(seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.intervals != other.intervals
    assert replace(other, intervals=first.intervals) == first
    assert evaluation.result(resamples=0).intervals == {}


def test_few_images_have_no_interval():
    assert random_evaluation(names=list("abcd")).result().intervals == {}
    assert random_evaluation(names=list("abcde")).result().intervals


def test_no_image_has_no_result():
    with pytest.raises(UsageError, match="no image was evaluated"):
        random_evaluation(names=[]).result()


def test_a_loss_that_is_not_known_everywhere_is_not_known():
    evaluation = random_evaluation(names=["a", "b"])
    for value in (np.nan, np.inf):
        result = replace(evaluation, losses=np.array([1.0, value])).result()
        assert result.to_json()["loss"] is None
        assert "loss" not in result.intervals


def test_classes_that_do_not_occur_are_null_and_left_out():
    evaluation = random_evaluation(names=["a", "b", "c"])
    evaluation.matrices[:, 1, :] = evaluation.matrices[:, :, 1] = 0
    result = evaluation.result(resamples=100).to_json()
    for metric in ("iou", "dice", "precision", "recall", "f1"):
        assert result[f"{metric}_per_class"]["road"] is None
    assert result["iou"] == pytest.approx(
        (result["iou_per_class"]["sky"] + result["iou_per_class"]["tree"]) / 2
    )
    assert "iou_per_class.road" not in result["intervals"]


def test_the_binary_headline_is_the_foregrounds():
    evaluation = random_evaluation(names=list("abcde"), labels=BINARY)
    result = evaluation.result(resamples=100)
    assert result.iou == result.iou_per_class["crack"] != result.iou_per_class["background"]
    assert result.dice == result.dice_per_class["crack"]
    assert result.intervals["iou"] == result.intervals["iou_per_class.crack"]
    evaluation.matrices[:, 1, :] = evaluation.matrices[:, :, 1] = 0
    absent = evaluation.result(resamples=100)
    assert absent.iou is absent.dice is None
    assert absent.iou_per_class == {"background": 1.0, "crack": None}
    assert "iou" not in absent.intervals


def test_subgroups_are_results_of_their_images_alone():
    scenes = ["city", "field"] * 4 + ["city"]
    attributes = [{"scene": scene, "only": "one", "id": str(i)} for i, scene in enumerate(scenes)]
    attributes[3]["camera"] = "left"
    attributes[4]["camera"] = "right"
    evaluation = random_evaluation(names=list("abcdefghi"), attributes=attributes)
    result = evaluation.result(resamples=30)
    # "only" has one value, and is no division of the images.
    assert {key: list(group) for key, group in result.subgroups.items()} == {
        "camera": ["left", "right"],
        "id": [str(i) for i in range(9)],
        "scene": ["city", "field"],
    }
    city = Evaluation(
        names=list("acegi"),
        matrices=evaluation.matrices[::2],
        losses=evaluation.losses[::2],
        attributes=[{}] * 5,
        labels=LABELS,
    )
    assert result.subgroups["scene"]["city"] == city.result(resamples=30)
    assert result.subgroups["scene"]["city"].intervals
    assert result.subgroups["camera"]["left"].images == 1


@pytest.mark.parametrize(("values", "reported"), [(1, False), (2, True), (20, True), (21, False)])
def test_attributes_of_two_to_twenty_values_make_subgroups(values, reported):
    names = [f"{i:02d}" for i in range(21)]
    attributes = [{"key": str(i % values)} for i in range(21)]
    result = random_evaluation(names=names, attributes=attributes).result(resamples=5)
    assert ("key" in result.subgroups) == reported


def test_a_perfect_model_scores_one_everywhere():
    evaluation = random_evaluation(names=list("abcde"))
    evaluation.matrices[:] *= np.eye(3, dtype=np.int64)
    result = evaluation.result(resamples=100)
    for metric in SCALARS:
        assert getattr(result, metric) == 1
        assert result.intervals[metric] == (1, 1)
    for metric in ("iou", "dice", "precision", "recall", "f1"):
        assert set(getattr(result, f"{metric}_per_class").values()) == {1.0}


def test_the_result_survives_json():
    evaluation = random_evaluation(
        names=list("abc"), attributes=[{"s": "x"}, {"s": "y"}, {"s": "x"}]
    )
    result = evaluation.result(resamples=20)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert PartResult.from_json(json.loads(text)) == result


# Saving

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=30)
@given(
    names=st.lists(words, max_size=5, unique=True),
    attributes=st.dictionaries(words, words, max_size=3),
    seed=st.integers(0, 99),
)
def test_saving_and_loading_gives_the_same(tmp_path_factory, names, attributes, seed):
    path = tmp_path_factory.mktemp("saved") / "per_image.npz"
    evaluation = random_evaluation(names=names, attributes=[attributes] * len(names), seed=seed)
    evaluation.losses[:1] = np.nan
    evaluation.save(path)
    assert_same(Evaluation.load(path), evaluation)
    assert [entry.name for entry in path.parent.iterdir()] == ["per_image.npz"]


def test_parts_are_saved_into_one_file(tmp_path):
    parts = {
        "validation": random_evaluation(names=["a", "b"]),
        "test": random_evaluation(names=["a", "c", "d"]),
    }
    save_parts(tmp_path / "per_image.npz", parts)
    loaded = load_parts(tmp_path / "per_image.npz")
    assert list(loaded) == list(parts)
    for name, evaluation in parts.items():
        assert_same(loaded[name], evaluation)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UsageError, match="no readable evaluation"):
        load_parts(tmp_path / "text.npz")


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "per_image.npz"
    random_evaluation(names=["a", "b"]).save(path)
    with np.load(path) as file:
        return path, dict(file)


@pytest.mark.parametrize(
    "change",
    [
        {"names": np.array([Trap(), Trap()], dtype=object)},
        {"attributes": np.array([Trap(), Trap()], dtype=object)},
        {"format": np.array(2)},
        {"names": np.array(["a"])},
        {"names": np.array(["a", "a"])},
        {"matrices": np.zeros((2, 9, 9), dtype=np.int64)},
        {"matrices": np.zeros((2, 3, 3), dtype=np.float32)},
        {"matrices": np.full((2, 3, 3), -5)},
        {"losses": np.array(["a", "b"])},
        {"losses": np.zeros((2, 2))},
        {"attributes": np.array(["{}", "[]"])},
        {"attributes": np.array(["{}", "{"])},
        {"labels": np.array("{}")},
        {"labels": np.array("[" * 100_000)},
    ],
)
def test_a_file_with_hostile_contents_is_refused(saved, change):
    path, contents = saved
    np.savez(path, **contents | change)
    with pytest.raises(UsageError, match="per_image.npz is no readable evaluation"):
        Evaluation.load(path)


def test_a_file_without_a_part_is_refused(saved):
    path, contents = saved
    for key in contents:
        np.savez(path, **{name: value for name, value in contents.items() if name != key})
        with pytest.raises(UsageError, match=f"no readable evaluation: .*{key}"):
            Evaluation.load(path)


def test_files_of_other_kinds_are_refused(saved):
    path, contents = saved
    whole = path.read_bytes()
    pickled = pickle.dumps(Trap())
    for content in (b"", b"text", pickled, whole[:-40], whole[:200], whole[200:]):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="no readable evaluation"):
            Evaluation.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in contents:
            archive.writestr(f"{name}.npy", pickled)
    with pytest.raises(UsageError, match="no readable evaluation"):
        Evaluation.load(path)
    with path.open("wb") as file:
        np.save(file, contents["matrices"])
    with pytest.raises(UsageError, match="no readable evaluation"):
        Evaluation.load(path)
    path.unlink()
    with pytest.raises(UsageError, match="no readable evaluation.*No such file"):
        Evaluation.load(path)


def test_saving_where_nothing_can_be_saved_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write .*per_image.npz"):
        random_evaluation(names=["a"]).save(tmp_path / "file" / "per_image.npz")
