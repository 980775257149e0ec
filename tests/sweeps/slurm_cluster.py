"""For the tests of `sweeps.slurm`: a Slurm cluster of two nodes on this machine.

Everything is its own: munged with its own key and socket, slurmctld and two slurmd on free ports,
all of it in one folder. Slurm's programs find it by the variable SLURM_CONF.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

HOST = socket.gethostname().partition(".")[0]
NODES = (HOST, f"{HOST}-b")

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")

# The first node has the name of this machine, as the processes of a training meet there.
# KillWait: seconds between SIGTERM and SIGKILL where a job is cancelled or requeued; GraceTime:
# where a job of "urgent" takes the place of one of "main".
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=10
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=4
NodeName={host}-b NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]} CPUs=4
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


class SlurmCluster:
    """A running cluster.

    Attributes:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "slurm.conf"

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its programs."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    @property
    def ready(self) -> bool:
        """Whether the controller answers, and all nodes wait for jobs."""
        command = ["sinfo", "--noheader", "--Node", "--format=%N %t"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return set(done.stdout.splitlines()) == {f"{node} idle" for node in NODES}

    def state(self, job: int) -> str:
        """The state of a Slurm job, such as RUNNING."""
        return self.ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def jobs(self) -> list[int]:
        """The jobs that wait or run."""
        return sorted(map(int, self.ask("squeue", "--noheader", "--format=%A").split()))

    def show(self, job: int, key: str) -> str:
        """What `scontrol show job` has under a key, such as NodeList."""
        words = self.ask("scontrol", "--oneliner", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)[key]

    def start_again(self, job: int) -> None:
        """Start a job once it is requeued, for which Slurm would wait two minutes."""
        wait_for(lambda: self.state(job) == "PENDING", f"job {job} is requeued")
        # In the second in which it was ended the node would refuse it.
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now+2")

    def processes(self) -> list[int]:
        """All processes that belong to it: those that were started with its configuration."""
        word = f"SLURM_CONF={self.conf}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if word in environment and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        return found


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(0.05)


def skip_without_slurm() -> None:
    """Skip the tests of this module where no cluster can be started."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs Debian's packages slurm-wlm and munge ({', '.join(missing)} missing)")
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster can be started by root only")


@contextmanager
def slurm_cluster(root: Path) -> Iterator[SlurmCluster]:
    """Start a cluster in an empty folder; end it and all that runs on it."""
    cluster = SlurmCluster(root)
    cluster.conf.write_text(CONFIGURATION.format(root=root, host=HOST, ports=_free_ports(3)))
    (root / "state").mkdir()
    key = root / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    with ExitStack() as daemons:
        files = [f"--{name}-file={root}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        files.append(f"--socket={root}/munge.socket")
        daemons.enter_context(_daemon(cluster, "munged", "--foreground", "--force", *files))
        wait_for((root / "munge.socket").exists, "munged runs")
        daemons.enter_context(_daemon(cluster, "slurmctld", "-D"))
        for node in NODES:
            daemons.enter_context(_daemon(cluster, "slurmd", "-D", "-N", node))
        wait_for(lambda: cluster.ready, f"the nodes are ready (logs: {root})")
        try:
            yield cluster
        finally:
            cluster.ask("scancel", "--user=root")
            wait_for(lambda: not cluster.jobs(), "all jobs have ended", seconds=30)
    for process in cluster.processes():
        os.kill(process, signal.SIGKILL)


@contextmanager
def _daemon(cluster: SlurmCluster, *command: str) -> Iterator[None]:
    with (
        (cluster.root / "daemons.log").open("a") as log,
        subprocess.Popen(
            command, env=cluster.environment, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
