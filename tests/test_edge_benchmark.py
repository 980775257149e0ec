import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from truemask.edge_benchmark import count_edges, edge_benchmark
from truemask.errors import UsageError


def scene(seed):
    rng = np.random.default_rng(seed)
    drawings = np.zeros((2, 32, 40), bool)
    drawings[0, 8, 4:36] = True
    drawings[1, 4:30, 20] = True
    probability = np.round(rng.random((32, 40)) * 0.6 * 255) / 255
    probability[9, 4:36] = 1
    return probability, drawings


@pytest.fixture
def folders(tmp_path):
    """Probabilities as PNG; drawings as BSDS500's files, as folders and as single files."""
    for kind in ("maps", "maps16", "mat", "folders", "single"):
        (tmp_path / kind).mkdir()
    for seed in range(3):
        probability, drawings = scene(seed)
        levels = np.round(probability * 255)
        Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "maps" / f"im{seed}.png")
        Image.fromarray((levels * 257).astype(np.uint16)).save(
            tmp_path / "maps16" / f"im{seed}.png"
        )
        people = np.empty((1, 2), object)
        for index, drawn in enumerate(drawings):
            people[0, index] = {"Boundaries": drawn.astype(np.uint8)}
        savemat(tmp_path / "mat" / f"im{seed}.mat", {"groundTruth": people})
        (tmp_path / "folders" / f"im{seed}").mkdir()
        for index, drawn in enumerate(drawings):
            file = tmp_path / "folders" / f"im{seed}" / f"{index}.png"
            Image.fromarray(drawn.astype(np.uint8) * 255).save(file)
        Image.fromarray(drawings[0].astype(np.uint8)).save(tmp_path / "single" / f"im{seed}.png")
    return tmp_path


def test_files_and_arrays_give_the_same(folders):
    maps = {f"im{seed}": scene(seed)[0] for seed in range(3)}
    drawings = {f"im{seed}": scene(seed)[1] for seed in range(3)}
    expected = edge_benchmark(maps, drawings, thresholds=9)
    assert expected.images == 3
    for truths in ("mat", "folders"):
        for predictions in ("maps", "maps16"):
            result = edge_benchmark(folders / predictions, str(folders / truths), thresholds=9)
            assert result == expected
    in_order = edge_benchmark(list(maps.values()), list(drawings.values()), thresholds=9)
    assert in_order == expected
    one = edge_benchmark(maps, {k: v[0] for k, v in drawings.items()}, thresholds=9)
    assert edge_benchmark(folders / "maps", folders / "single", thresholds=9) == one
    assert one != expected


def test_parts_merge(folders):
    maps = {f"im{seed}": scene(seed)[0] for seed in range(3)}
    drawings = {f"im{seed}": scene(seed)[1] for seed in range(3)}
    parts = [count_edges({n: maps[n]}, {n: drawings[n]}, thresholds=9) for n in maps]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    assert merged.result() == edge_benchmark(maps, drawings, thresholds=9)


def test_progress_is_told():
    told = []
    maps, drawings = zip(*(scene(seed) for seed in range(2)), strict=True)
    edge_benchmark(maps, drawings, thresholds=1, progress=lambda *told_: told.append(told_))
    assert told == [(1, 2), (2, 2)]


def test_what_is_missing_or_wrong_is_named(folders):
    (folders / "maps" / "im1.png").unlink()
    with pytest.raises(UsageError, match="im1 has no prediction"):
        edge_benchmark(folders / "maps", folders / "mat")
    with pytest.raises(UsageError, match="im1 has no ground truth"):
        edge_benchmark(folders / "maps16", {"im0": scene(0)[1], "im2": scene(2)[1]})
    with pytest.raises(UsageError, match="can be read"):
        edge_benchmark(folders / "nowhere", folders / "mat")
    with pytest.raises(UsageError, match="empty"):
        edge_benchmark([], [])
    with pytest.raises(UsageError, match="000000: .*must be"):
        edge_benchmark([np.zeros((3, 4))], [np.zeros((4, 3), bool)])
    (folders / "folders" / "im0.png").write_bytes((folders / "single" / "im0.png").read_bytes())
    with pytest.raises(UsageError, match="two ground truths of im0"):
        edge_benchmark(folders / "maps16", folders / "folders")
