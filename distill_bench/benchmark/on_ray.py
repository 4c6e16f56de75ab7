"""Cells as tasks of a Ray cluster. Ray is imported when a run asks for it, not before.

All nodes see the store and the results under the same paths: a shared file system, where there are several machines.
"""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType
from typing import Any

import torch

from distill_bench.benchmark.helpers import Helpers, Wanted
from distill_bench.benchmark.tasks import CellWork
from distill_bench.benchmark.worker import WORKER, order
from distill_bench.errors import Interrupted, UsageError
from distill_bench.runtime.paths import home
from distill_bench.runtime.progress import StreamMonitor

POLL_SECONDS = 0.2
RETRIES = 3
OBJECT_STORE_BYTES = 100_000_000  # cells hand over nothing but their exit code
OURS = "DISTILL_BENCH_"
DEVICES = ("auto", "cpu", "cuda")


def require_ray() -> ModuleType:
    """Ray, which reports to its makers only where the environment asks it to.

    Raises:
        UsageError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not os.environ.get("RAY_ADDRESS"):
        # else Ray takes 127.0.0.1 for the machine's address in the network, and listens to everybody
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if not sys.stderr.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError(
            "--executor ray needs Ray, which is not installed: pip install 'distill_bench[cluster]'."
        ) from error
    return ray


def run_on_ray(
    works: list[CellWork],
    jobs: int | None,
    threads: int,
    monitor: StreamMonitor,
    quiet: bool,
    report: Callable[[CellWork, int], None],
) -> None:
    """Run cells on the cluster at ``RAY_ADDRESS``, or else on a Ray of this machine's own, one task a cell.

    Where the cluster has room for more tasks than there are cells, more tasks share a cell: they train experts, recover
    batches and test networks that no other is at.
    A task asks for as many CPUs as it has threads, and for a GPU where cells run on one, or what the recipe says. One
    whose worker, process or node dies is given to another, three times at most, and goes on from its checkpoint.

    Args:
        jobs: tasks at a time; None for as many as there is room for.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or no node of it can run a cell.
    """
    ray = require_ray()
    cpus = max(torch.get_num_threads(), threads * (jobs or 1))
    with _connected(ray, cpus, quiet), _marks(works[0]) as marks:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        tasks = _Tasks(ray, {work.key: _request(nodes, work, threads) for work in works}, threads, quiet, marks)
        room = jobs or max(_room(nodes, request) for request in tasks.requests.values())
        waiting, helpers, told_to_stop = list(works), Helpers(), False
        while waiting or len(tasks):
            while waiting and len(tasks.running) < (jobs or len(works)) and not monitor.stop_requested:
                tasks.begin(waiting.pop(0))
            if monitor.stop_requested:
                waiting.clear()
                tasks.cancel([*tasks.running, *tasks.helping])
                told_to_stop = True
            elif len(tasks) < room and (wanted := helpers.wanted(tasks.running.values())):
                tasks.help(wanted)
            for work, reference in tasks.ended(helpers):
                report(work, _outcome(ray, reference, work, told_to_stop))


class _Tasks:
    """Tasks that are with the cluster: those that do cells, and those that help with them.

    Args:
        requests: what each cell asks for, by its key.
        marks: see ``_marks``.
    """

    def __init__(
        self, ray: ModuleType, requests: dict[str, dict[str, Any]], threads: int, quiet: bool, marks: list[str]
    ) -> None:
        self._ray, self.requests, self._threads, self._quiet = ray, requests, threads, quiet
        self._surroundings = (WORKER, os.getcwd(), _import_path(), _environment(), marks)
        self.running, self.helping = dict[Any, CellWork](), dict[Any, Wanted]()
        self._cancelled = set[Any]()

    def __len__(self) -> int:
        return len(self.running) + len(self.helping)

    def begin(self, work: CellWork) -> None:
        """Give the cluster a cell."""
        self.running[self._remote(work, RETRIES)] = work

    def help(self, wanted: Wanted) -> None:
        """Give the cluster a task that helps with a cell. The cell does without, where it dies."""
        self.helping[self._remote(wanted.work, 0, helping=True)] = wanted

    def _remote(self, work: CellWork, retries: int, helping: bool = False) -> Any:
        told = order(work.cell, work.setting, self._threads, self._quiet, helping)
        options = {**self.requests[work.key], "max_retries": retries, "retry_exceptions": retries > 0}
        return self._ray.remote(**options)(_task()).remote(told, *self._surroundings)

    def ended(self, helpers: Helpers) -> list[tuple[CellWork, Any]]:
        """Cells whose tasks have ended, and these. Who helps with them is told to end."""
        ready = self._ray.wait([*self.running, *self.helping], timeout=POLL_SECONDS)[0] if len(self) else []
        found = [(self.running.pop(reference), reference) for reference in ready if reference in self.running]
        for reference in self.helping.keys() & {*ready}:
            helpers.ended(self.helping.pop(reference))
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.get(reference)  # else Ray complains of an error that nobody took
        self.cancel([each for each, wanted in self.helping.items() if wanted.work not in self.running.values()])
        return found

    def cancel(self, references: list[Any]) -> None:
        """Ask tasks to end, once."""
        for reference in references:
            if reference not in self._cancelled:
                self._ray.cancel(reference)
                self._cancelled.add(reference)


def _task() -> Callable[..., int]:
    """What Ray's worker does: a process for the cell, as the local executor has. Ray tries again where it raises.

    Defined in here, it travels as code, and Ray's process imports nothing of ours: with torch inside, it was
    once seen to abort.
    """

    def run(told: str, worker: str, folder: str, path: list[str], environment: dict[str, str], marks: list[str]) -> int:
        for mark in marks:
            if not os.path.exists(mark):
                raise FileNotFoundError(
                    f"on {platform.node()}, {os.path.dirname(mark)} is not the folder that it is where the run was "
                    "started. Put DISTILL_BENCH_HOME and --results on a file system that all nodes share."
                )
        with subprocess.Popen(
            [sys.executable, "-c", worker],
            stdin=subprocess.PIPE,  # at whose end the worker stops: it does not outlive this process
            stdout=2,
            text=True,
            cwd=folder if os.path.isdir(folder) else None,
            env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(filter(os.path.exists, path))},
        ) as process:
            assert process.stdin is not None
            try:
                process.stdin.write(told)
                process.stdin.flush()
                while process.poll() is None:
                    time.sleep(0.1)
            except KeyboardInterrupt:  # how Ray cancels
                process.terminate()
                process.wait()
                raise
        if process.returncode < 0:
            raise RuntimeError(f"the process was killed by signal {-process.returncode}; 9 may mean out of memory.")
        if process.returncode == 130:
            raise RuntimeError("the process was stopped by another than us.")
        return process.returncode

    return run


def _outcome(ray: ModuleType, reference: Any, work: CellWork, stopping: bool) -> int:
    """The exit code of a task that ended; where it has none, why not is filed as the cell's failure."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        if stopping:
            return Interrupted.exit_code
        work.record_failure(f"tried {1 + RETRIES} times on Ray: {getattr(error, 'cause', None) or error}")
        return 1


def _import_path() -> list[str]:
    """Where this process imports from, but for the folders that every Python has of its own."""
    own = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return [str(Path(entry).absolute()) for entry in sys.path if entry and not entry.startswith(own)]


def _environment() -> dict[str, str]:
    """Our own variables, the folder of the cache among them."""
    own = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
    return own | {f"{OURS}HOME": str(home().absolute())}


@contextmanager
def _connected(ray: ModuleType, cpus: int, quiet: bool) -> Iterator[None]:
    """A connection to the cluster, or to a Ray of this machine with so many CPUs; the handlers of signals stay ours."""
    address = os.environ.get("RAY_ADDRESS")
    local = {
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
    }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(**({"address": address} if address else local), log_to_driver=not quiet, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UsageError(f"no Ray {f'at RAY_ADDRESS={address}' if address else 'could be started'}: {error}") from error
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _marks(work: CellWork) -> Iterator[list[str]]:
    """A file in each folder that all nodes must share, for as long as the run lasts."""
    marks = []
    try:
        for folder in (home().absolute() / "store", work.setting.results):
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix=".run-", delete=False) as file:
                marks.append(file.name)
        yield marks
    finally:
        for mark in marks:
            Path(mark).unlink(missing_ok=True)


def _request(nodes: list[dict[str, Any]], work: CellWork, threads: int) -> dict[str, Any]:
    """What a cell asks the cluster for. All run on the same kind of device, so that bytes are equal."""
    device, resources = work.setting.device, work.resources
    if device not in DEVICES:
        raise UsageError(
            f"--device {device}: Ray gives every cell a GPU of its own, or none. Give {', '.join(DEVICES)}."
        )
    gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    on_gpu = device == "cuda" or (device == "auto" and gpus)
    request = {"num_cpus": max(threads, resources.cpus), "num_gpus": resources.gpus if on_gpu else 0}
    if not _room(nodes, request):
        most = int(max((node.get("CPU", 0) for node in nodes), default=0))
        raise UsageError(
            f"{work.cell} asks for {request['num_cpus']} CPUs and {request['num_gpus']:g} GPUs, and no node of the "
            f"cluster has them: the largest has {most} CPUs, and there are {'' if gpus else 'no '}GPUs. Change "
            "--threads, --device or the recipe's resources."
        )
    return request


def _room(nodes: list[dict[str, Any]], request: dict[str, Any]) -> int:
    """How many tasks with a request the nodes can run at a time."""
    wanted = {"CPU": request["num_cpus"], "GPU": request["num_gpus"]}
    return sum(min(int(node.get(name, 0) / count) for name, count in wanted.items() if count) for node in nodes)
