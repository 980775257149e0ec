"""A Ray cluster: to join one, and to call a function for many things on all of its machines.

Ray is an extra (`pip install 'truemask[ray]'`), so it is imported inside the functions. It sends
reports of its use to its makers unless told otherwise: here it is told otherwise.
"""

import logging
import os
import pickle
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truemask.errors import UsageError

_LARGEST_BLOCK = 8
"""Items that a process is given at once: few, since they are done again where it dies."""

_MOST_BLOCKS = 20_000
"""Each costs Ray some milliseconds and kilobytes: of more than 160,000 items more go at once."""


@dataclass(frozen=True)
class Node:
    """What one machine of a cluster offers."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Called:
    """What came of one item.

    Attributes:
        index: its place among the items.
        value: what the function returned.
        node: the id of the machine that did it.
    """

    index: int
    value: Any
    node: str


@contextmanager
def joined(address: str) -> Iterator[list[Node]]:
    """Join a cluster, and leave it in the end; one that this process has joined already is used.

    Args:
        address: "auto": that of the variable RAY_ADDRESS, or else one that runs on this machine,
            or else one is started on this machine alone, for as long as it is needed. Otherwise
            "HOST:PORT", seen from one of its machines, or "ray://HOST:PORT" from outside.

    Yields:
        Its machines.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"{error}: pip install 'truemask[ray]'") from error

    if ray.is_initialized():
        yield nodes()
        return
    try:
        chosen = _chosen(address)
        with _undisturbed():
            ray.init(
                address=chosen,
                include_dashboard=None if "://" in address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except Exception as error:  # Ray raises many kinds, among them this very one
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"cannot join the Ray cluster {address} ({line}): start one with `ray start --head`, "
            "give the HOST:PORT that it printed, and set RAY_AUTH_MODE=token where it asks for one"
        ) from error
    try:
        yield nodes()
    finally:
        ray.shutdown()


def _chosen(address: str) -> str | None:
    """What Ray is to be told; it would wait for minutes for a cluster that is not there.

    Raises:
        ConnectionError: nothing answers at an address that was given.
    """
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if named:
        _require_answer(named)
    elif (file := _last_started()).is_file():
        try:
            _require_answer(file.read_text().strip())
        except ConnectionError:  # it has crashed
            return "local"
    return None if address == "auto" else address  # Ray's own "auto" never starts one


def _last_started() -> Path:
    """Where Ray keeps the address of the last cluster that was started on this machine."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(folder, "ray", "ray_current_cluster")


def _require_answer(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if "://" in host or not port.isdecimal():
        return  # of a kind that Ray knows more of
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionError(f"nothing answers at {address}: {reason}") from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep Ray from what it does to a process that joins: to SIGTERM, and to what is printed."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    # It prints what happens to machines and processes on standard output, where our JSON may be.
    ray._private.worker._worker_logs_enabled = False
    try:
        with _quiet_backend():
            yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _quiet_backend() -> Iterator[None]:
    """Without the log of Ray's core, which calls each pool of Ray Data an error."""
    if "RAY_BACKEND_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    errors = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)  # it says that it has been told a level
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        del os.environ["RAY_BACKEND_LOG_LEVEL"]


def nodes() -> list[Node]:
    """The living machines of the cluster that is joined."""
    import ray

    offers = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(cpus=offer.get("CPU", 0), gpus=offer.get("GPU", 0)) for offer in offers]


def describe(machines: Sequence[Node]) -> str:
    """Such as "Ray: 2 machines, 16 CPUs, 2 GPUs"."""
    cpus, gpus = sum(node.cpus for node in machines), sum(node.gpus for node in machines)
    return f"Ray: {amount(len(machines), 'machine')}, {amount(cpus, 'CPU')}, {amount(gpus, 'GPU')}"


def amount(number: float, thing: str) -> str:
    """Such as "1 CPU", "0.5 GPUs"."""
    return f"{number:g} {thing}{'' if number == 1 else 's'}"


def use_own_gpus() -> None:
    """Hide from a process of the cluster the GPUs that it has not been given."""
    import ray

    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextmanager
def shared(folder: Path) -> Iterator[Path]:
    """A mark in a folder, by which other machines can tell that they see the same one.

    Marks that killed processes of this machine left are removed.
    """
    for left in folder.glob(".shared.*.part"):
        with suppress(OSError, ValueError, OverflowError):
            host, _, process = left.read_text().partition(" ")
            if host == socket.gethostname() and not _is_alive(int(process)):
                left.unlink()
    mark = folder / f".shared.{secrets.token_hex(8)}.part"
    with mark.open("x") as file:
        file.write(f"{socket.gethostname()} {os.getpid()}")
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # where this would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def require_shared(mark: Path) -> None:
    """Hold a mark of `shared` against what this machine sees.

    Raises:
        UsageError: it is not there.
    """
    if not mark.exists():
        raise UsageError(
            f"{socket.gethostname()} does not see the {mark.parent} of the machine that started "
            "this: choose a folder that all machines of the cluster share"
        )


def call_on_cluster(
    make: Callable[[], Callable[[Any], Any]], items: Sequence[Any]
) -> Iterator[Called]:
    """Call a function with each item on all machines of the cluster that is joined, by Ray Data.

    There is one process for each GPU, or for each CPU where the cluster has no GPU. What a process
    was doing when it died, or its machine, is done again by another.

    Args:
        make: called once in every process, so that it can load a model; returns the function.
        items: what can be pickled, as `make` and what the function returns. Each is asked for once,
            in order, and not kept.

    Yields:
        What came of each item, in any order.

    Raises:
        UsageError: the function or `make` raised it, the cluster has no CPU, or it was joined from
            outside, where Ray Data does not work.
    """
    import ray.data
    import ray.util.client

    if ray.util.client.ray.is_connected():
        raise UsageError(
            "Ray Data does not work through ray://: run the same on a machine of the cluster, or "
            "by `ray job submit`"
        )
    machines = nodes()
    on_gpus = any(node.gpus >= 1 for node in machines)
    places = sum(int(node.gpus if on_gpus else node.cpus) for node in machines)
    if places == 0:
        raise UsageError("the Ray cluster has no CPU: start its machines with one or more")
    size = max(1, min(_LARGEST_BLOCK, len(items) // (8 * places)), -(-len(items) // _MOST_BLOCKS))
    # A row is a block: a table of its own for each item takes more room than the item.
    rows = [
        {
            "first": first,
            "items": pickle.dumps([items[i] for i in range(first, min(first + size, len(items)))]),
        }
        for first in range(0, len(items), size)
    ]
    blocks = len(rows)
    with _quiet_context():
        # The fewest is one: where a machine is lost, its processes wait for a place that the
        # others must be able to give up, or both would wait for ever.
        pool = ray.data.ActorPoolStrategy(
            min_size=1, initial_size=min(places, blocks), max_size=places
        )
        data = ray.data.from_items(rows, override_num_blocks=blocks)
        rows.clear()
        results = data.map(
            _Caller,
            fn_constructor_args=(make,),
            compute=pool,
            num_cpus=None if on_gpus else 1,
            num_gpus=1 if on_gpus else None,
        )
        for row in results.iter_rows():
            values, error = pickle.loads(row["results"])
            for index, value in enumerate(values, start=row["first"]):
                yield Called(index=index, value=value, node=row["node"])
            if error is not None:
                raise UsageError(error)


class _Caller:
    """One process of `call_on_cluster`.

    A `UsageError` travels as a value, because Ray would wrap it in its own.
    """

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        import ray

        use_own_gpus()
        self.node = ray.get_runtime_context().get_node_id()
        self.error: str | None = None
        try:
            self.function = make()
        except UsageError as error:
            self.error = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        values, error = [], self.error
        if error is None:
            try:
                for item in pickle.loads(row["items"]):
                    values.append(self.function(item))
            except UsageError as raised:
                error = str(raised)
        results = pickle.dumps((values, error))
        return {"first": row["first"], "results": results, "node": self.node}


@contextmanager
def _quiet_context() -> Iterator[None]:
    """Ray Data without its bars and notes; the caller shows progress in its own way."""
    import ray.data

    logger = logging.getLogger("ray.data")
    level = logger.level
    with warnings.catch_warnings():
        # It sets its own outdated settings.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)
