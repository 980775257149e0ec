"""A survey on a Ray cluster of two machines, which are processes here."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from test_survey import write_folder

from ray_cluster import TwoNodes, two_nodes
from truemask.analysis.survey import survey
from truemask.datasets.folder import folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    with two_nodes() as nodes:
        yield nodes


def test_a_cluster_counts_what_one_process_counts(cluster, tmp_path, monkeypatch):
    from truemask.analysis.survey_distributed import count_on_ray

    write_folder(tmp_path / "data", images=20)
    broken = tmp_path / "data" / "train" / "images" / "train003.png"
    broken.write_bytes(broken.read_bytes()[:100])
    monkeypatch.chdir(tmp_path)
    parts = folder("data")  # a path that is relative to where the command runs
    (tmp_path / "out").mkdir()
    count = partial(count_on_ray, out=tmp_path / "out", address=cluster.address)
    found = survey(parts, name="data", count=count)
    alone = survey(parts, name="data", processes=1)
    assert found.total.unreadable == 1
    assert replace(found, seconds=0) == replace(alone, seconds=0)
    assert list((tmp_path / "out").iterdir()) == []
