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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType
from typing import Any

import torch

from distill_bench.benchmark.tasks import CellTasks
from distill_bench.benchmark.worker import WORKER, Order
from distill_bench.errors import UsageError
from distill_bench.runtime.paths import cache_dir

POLL_SECONDS = 0.2
_RETRIES = 3
_OBJECT_STORE_BYTES = 100_000_000  # cells hand over nothing but their exit code
_OURS = "DISTILL_BENCH_"
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
            "`executor=ray` needs Ray, which is not installed: pip install 'distill_bench[cluster]'."
        ) from error
    return ray


class RayWorkers(contextlib.ExitStack):
    """Runs every order as a task of the cluster at ``RAY_ADDRESS``, or else of a Ray of this machine's own.

    A task asks for as many CPUs as it has threads, and for a GPU where cells run on one, or what the recipe says. A
    cell whose worker, process or node dies is given to another, three times at most, and goes on from its checkpoint.

    Args:
        works: the cells.
        jobs: tasks at a time; None for as many as there is room for.
        threads: of every process.
        quiet: whether workers report no progress.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or no node of it can run a cell.
    """

    def __init__(self, works: list[CellTasks[Any]], jobs: int | None, threads: int, quiet: bool) -> None:
        super().__init__()
        self._ray, self._works, self._jobs, self._threads, self._quiet = require_ray(), works, jobs, threads, quiet
        self._orders, self._cancelled = dict[Any, Order](), set[Any]()

    def __enter__(self) -> "RayWorkers":
        cpus = max(torch.get_num_threads(), self._threads * (self._jobs or 1))
        with contextlib.ExitStack() as stack:
            stack.enter_context(_connected(self._ray, cpus, self._quiet))
            marks = stack.enter_context(_marks(self._works[0]))
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._requests = {work.key: _request(nodes, work, self._threads) for work in self._works}
            self.push(stack.pop_all())
        self._surroundings = (WORKER, os.getcwd(), _import_path(), _environment(), marks)
        self.room = self._jobs or max(_room(nodes, request) for request in self._requests.values())
        self.room_for_cells = self._jobs or sys.maxsize  # Ray places them, on nodes that join later too
        return self

    def __len__(self) -> int:
        return len(self._orders)

    def start(self, order: Order) -> None:
        retries = 0 if order.tasks else _RETRIES
        options = {**self._requests[order.work.key], "max_retries": retries, "retry_exceptions": retries > 0}
        line = order.line(self._threads, self._quiet)
        self._orders[self._ray.remote(**options)(_task()).remote(line, *self._surroundings)] = order

    def ended(self) -> list[tuple[Order, int, str]]:
        ready = self._ray.wait([*self._orders], timeout=POLL_SECONDS)[0] if self._orders else []
        return [(self._orders.pop(reference), *self._outcome(reference)) for reference in ready]

    def stop(self, orders: Iterable[Order]) -> None:
        wanted = list(orders)
        for reference, order in self._orders.items():
            if order in wanted and reference not in self._cancelled:
                self._ray.cancel(reference)
                self._cancelled.add(reference)

    def _outcome(self, reference: Any) -> tuple[int, str]:
        try:
            return self._ray.get(reference), ""
        except self._ray.exceptions.RayError as error:
            return 1, f"tried {1 + _RETRIES} times on Ray: {getattr(error, 'cause', None) or error}"


def _task() -> Callable[..., int]:
    """What Ray's worker does: a process for the cell, as the local executor has. Ray tries again where it raises.

    Defined in here, it travels as code, and Ray's process imports nothing of ours: with torch inside, it was
    once seen to abort.
    """

    def run(
        message: str, worker: str, folder: str, path: list[str], environment: dict[str, str], marks: list[str]
    ) -> int:
        for mark in marks:
            if not os.path.exists(mark):
                raise FileNotFoundError(
                    f"on {platform.node()}, {os.path.dirname(mark)} is not the folder that it is where the run was "
                    "started. Put DISTILL_BENCH_HOME and `results` on a file system that all nodes share."
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
                process.stdin.write(message)
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


def _import_path() -> list[str]:
    """Where this process imports from, but for the folders that every Python has of its own."""
    own = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return [str(Path(entry).absolute()) for entry in sys.path if entry and not entry.startswith(own)]


def _environment() -> dict[str, str]:
    """Our own variables, the folder of the cache among them."""
    own = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    return own | {f"{_OURS}HOME": str(cache_dir().absolute())}


@contextmanager
def _connected(ray: ModuleType, cpus: int, quiet: bool) -> Iterator[None]:
    """A connection to the cluster, or to a Ray of this machine with so many CPUs; the handlers of signals stay ours."""
    address = os.environ.get("RAY_ADDRESS")
    local = {
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
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
def _marks(work: CellTasks[Any]) -> Iterator[list[str]]:
    """A file in each folder that all nodes must share, for as long as the run lasts."""
    marks = []
    try:
        for folder in (cache_dir().absolute() / "store", work.setting.results):
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix=".run-", delete=False) as file:
                marks.append(file.name)
        yield marks
    finally:
        for mark in marks:
            Path(mark).unlink(missing_ok=True)


def _request(nodes: list[dict[str, Any]], work: CellTasks[Any], threads: int) -> dict[str, Any]:
    """What a cell asks the cluster for. All run on the same kind of device, so that bytes are equal."""
    device, resources = work.setting.device, work.resources
    if device not in DEVICES:
        raise UsageError(
            f"`device={device}`: Ray gives every cell a GPU of its own, or none. Give {', '.join(DEVICES)}."
        )
    gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    on_gpu = device == "cuda" or (device == "auto" and gpus)
    request = {"num_cpus": max(threads, resources.cpus), "num_gpus": resources.gpus if on_gpu else 0}
    if not _room(nodes, request):
        most = int(max((node.get("CPU", 0) for node in nodes), default=0))
        raise UsageError(
            f"{work.cell} asks for {request['num_cpus']} CPUs and {request['num_gpus']:g} GPUs, and no node of the "
            f"cluster has them: the largest has {most} CPUs, and there are {'' if gpus else 'no '}GPUs. Change "
            "`threads`, `device` or the recipe's resources."
        )
    return request


def _room(nodes: list[dict[str, Any]], request: dict[str, Any]) -> int:
    """How many tasks with a request the nodes can run at a time."""
    wanted = {"CPU": request["num_cpus"], "GPU": request["num_gpus"]}
    return sum(min(int(node.get(name, 0) / count) for name, count in wanted.items() if count) for node in nodes)
