"""A Ray cluster of two machines, which are processes here, for as long as some tests need it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NODE: dict[str, Any] = {
    "num_cpus": 1,
    "object_store_memory": 100 * 2**20,
    "include_dashboard": False,
}


class TwoNodes:
    """A running cluster.

    Attributes:
        address: what joins it.
        second: the machine that is not the head.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # A lost machine is noticed in two seconds, not in fifteen; a slow one is not lost.
        system = {
            "health_check_timeout_ms": 60_000,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 4,
            "worker_niceness": 0,  # other tests may keep the processor busy
        }
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={**_NODE, "_system_config": system},
        )
        self.address: str = self.cluster.address
        self.second = self.cluster.add_node(**_NODE)
        self.second_process: int = self.second.all_processes["raylet"][0].process.pid

    def kill_second(self) -> None:
        """End the second machine and all that runs on it, without a word."""
        self.cluster.remove_node(self.second, allow_graceful=False)


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Start a cluster; skips the test where Ray is missing."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'truemask[ray]'")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as root:
        # `cluster.joined` sets the second, but comes after Ray has been imported here. The folder
        # is not pytest's, whose name is too long for Ray's sockets.
        variables = {"RAY_TMPDIR": root, "RAY_USAGE_STATS_ENABLED": "0"}
        Path(root, "ray").mkdir()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            nodes = TwoNodes()
            try:
                yield nodes
            finally:
                nodes.cluster.shutdown()
