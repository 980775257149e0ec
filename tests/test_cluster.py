"""What needs no cluster; the rest is tested by what uses one."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from truemask import cluster
from truemask.cluster import Node, call_on_cluster, describe, joined, require_shared, shared
from truemask.errors import UsageError


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def refusal(address: str) -> str:
    with pytest.raises(UsageError) as caught, joined(address):
        pass
    return str(caught.value)


def test_ray_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'truemask[ray]'" in refusal("auto")


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    address = f"127.0.0.1:{unused_port()}"
    handler = signal.getsignal(signal.SIGTERM)
    assert f"{address} (nothing answers at {address}: Connection refused)" in refusal(address)
    assert f"nothing answers at ray://{address}" in refusal(f"ray://{address}")
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"auto (nothing answers at {address}" in refusal("auto")
    assert "Invalid address format: nonsense" in refusal("nonsense")
    assert signal.getsignal(signal.SIGTERM) is handler


def test_auto_is_a_new_one_where_the_last_one_has_crashed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster._chosen("auto") is None
    last = tmp_path / "ray" / "ray_current_cluster"
    last.parent.mkdir()
    last.write_text(f"127.0.0.1:{unused_port()}")
    assert cluster._chosen("auto") == "local"
    with socket.create_server(("127.0.0.1", 0)) as running:
        last.write_text(f"127.0.0.1:{running.getsockname()[1]}")
        assert cluster._chosen("auto") is None


def test_ray_data_is_not_tried_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("ray.util.client").ray
    monkeypatch.setattr(client, "is_connected", lambda: True)
    with pytest.raises(UsageError, match="does not work through ray://"):
        next(call_on_cluster(lambda: abs, [1]))


def test_what_a_cluster_has() -> None:
    assert describe([Node(1, 0)]) == "Ray: 1 machine, 1 CPU, 0 GPUs"
    assert describe([Node(16, 1), Node(8.5, 0)]) == "Ray: 2 machines, 24.5 CPUs, 1 GPU"


def test_marks_that_killed_processes_left_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    left = tmp_path / ".shared.0123456789abcdef.part"
    left.write_text(f"{socket.gethostname()} {ended.pid}")
    others = {
        "0": f"elsewhere {ended.pid}",
        "1": f"{socket.gethostname()} {os.getpid()}",
        "2": "",
        "3": f"{socket.gethostname()} x",
        "4": f"{socket.gethostname()} {10**30}",
    }
    for name, text in others.items():
        (tmp_path / f".shared.{name}.part").write_text(text)
    with shared(tmp_path):
        assert not left.exists()
        assert len(list(tmp_path.iterdir())) == len(others) + 1
    assert len(list(tmp_path.iterdir())) == len(others)


def test_a_folder_that_another_machine_does_not_see(tmp_path: Path) -> None:
    with shared(tmp_path) as mark:
        require_shared(mark)
        with pytest.raises(UsageError, match=f"does not see the {tmp_path}/elsewhere of"):
            require_shared(tmp_path / "elsewhere" / mark.name)
    assert list(tmp_path.iterdir()) == []
