import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import tv_tensors

from truemask.analysis.boundaries import BoundaryWatcher, EdgeWatcher, Watchers, drawings_of
from truemask.datasets.sample import Sample
from truemask.errors import UsageError
from truemask.evaluation import Seen
from truemask.labels import LabelMap
from truemask.metrics.boundary import boundary_counts

TWO = LabelMap(names=("background", "boundary"), values={0: 0, 1: 1})
THREE = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2})
FOLDER = {"data": {"dataset": {"_target_": "truemask.datasets.folder.folder", "root": "x"}}}


def seen(name, truth, logits, labels):
    logits = torch.as_tensor(logits, dtype=torch.float32)
    return Seen(
        sample=Sample(
            image=tv_tensors.Image(torch.zeros(3, *truth.shape, dtype=torch.uint8)),
            mask=tv_tensors.Mask(torch.from_numpy(truth)),
            name=name,
        ),
        truth=torch.from_numpy(truth),
        logits=logits,
        ids=labels.decode(logits[None])[0],
    )


def halves(at, shape=(30, 40)):
    ids = np.zeros(shape, np.uint8)
    ids[:, at:] = 1
    return ids


def test_boundaries_are_counted_of_the_very_ids_that_are_scored():
    watcher = BoundaryWatcher(THREE, tolerance=0.06)
    truth, found = halves(12), halves(14)
    logits = np.stack([found == 0, found == 1, found == 2]) * 5.0
    for name in ("b", "a"):
        watcher(seen(name, truth, logits, THREE))
    counts = watcher.counts()
    assert counts.names == ("a", "b")
    expected = boundary_counts(truth, found, num_classes=3, tolerances=[0.06])
    np.testing.assert_array_equal(counts.counts[0, 2], expected[0])
    assert counts.result().f1_per_class == {"a": 1, "b": 1, "c": None}


def line(at, shape=(30, 40)):
    drawn = np.zeros(shape, bool)
    drawn[5:25, at] = True
    return drawn


def test_edges_against_the_mask_where_no_annotator_is_known():
    watcher = EdgeWatcher(TWO, tolerance=0.06)
    truth = line(12).astype(np.uint8)
    truth[line(30)] = 255  # somebody drew it, but too few
    found = line(13) | line(30) | line(35)
    watcher(seen("a", truth, np.where(found, 2.0, -9.0)[None], TWO))
    counts = watcher.counts().counts[0, 49]
    # The line on doubtful ground has no partner, and counts neither for nor against.
    assert counts.tolist() == [20, 20, 20, 40]


def test_edges_against_each_annotator():
    drawings = np.stack([line(12), line(20)])
    watcher = EdgeWatcher(TWO, tolerance=0.06, drawings=lambda name: drawings)
    found = np.where(line(13), 2.0, -9.0)[None]
    watcher(seen("a", np.zeros((30, 40), np.uint8), found, TWO))
    assert watcher.counts().counts[0, 49].tolist() == [20, 40, 20, 20]


def test_what_is_watched():
    none = Watchers(TWO, FOLDER, boundaries=None, edges=False)
    assert none.results() == (None, None)
    both = Watchers(TWO, FOLDER, boundaries=0.01, edges=True)
    both(seen("a", halves(12), halves(12)[None] * 20.0 - 10, TWO))
    boundaries, edges = both.results()
    assert (boundaries.f1, boundaries.tolerance, edges.tolerance) == (1, 0.01, 0.01)
    with pytest.raises(UsageError, match="two classes"):
        Watchers(THREE, FOLDER, boundaries=None, edges=True)
    with pytest.raises(UsageError, match="tolerance is"):
        Watchers(TWO, FOLDER, boundaries=0.5, edges=False)


def test_annotators_of_bsds500(tmp_path):
    home = tmp_path / "BSDS500" / "data"
    for part in ("train", "val"):
        (home / "images" / part).mkdir(parents=True)
        (home / "groundTruth" / part).mkdir(parents=True)
        people = np.empty((1, 2), object)
        for index, drawn in enumerate((line(12), line(20))):
            people[0, index] = {"Boundaries": drawn.astype(np.uint8)}
        savemat(home / "groundTruth" / part / f"{part}1.mat", {"groundTruth": people})
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(
            home / "images" / part / f"{part}1.jpg"
        )
    dataset = {"_target_": "truemask.datasets.bsds500.bsds500", "root": str(tmp_path)}
    config = {"data": {"dataset": dataset}}
    np.testing.assert_array_equal(drawings_of(config)("val1"), [line(12), line(20)])
    assert drawings_of(config)("nobody") is None
    one = {"data": {"dataset": {**dataset, "annotator": 1}}}
    assert drawings_of(one)("val1") is None
    assert drawings_of(FOLDER)("val1") is None
    # Boundaries of BSDS500 are edges, against each annotator.
    watchers = Watchers(TWO, config, boundaries=0.06, edges=False)
    found = np.where(line(13), 2.0, -9.0)[None]
    watchers(seen("val1", np.zeros((30, 40), np.uint8), found, TWO))
    assert watchers.edges.counts().counts[0, 49].tolist() == [20, 40, 20, 20]
