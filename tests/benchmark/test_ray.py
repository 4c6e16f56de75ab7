"""Cells on a Ray cluster: what a run asks of it, and, slow, real clusters of two nodes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from small_suite import CELLS, begun, bench, finish, outcome, write

from distill_bench.benchmark import BenchConfig, SetCell, on_ray, run_cells, tasks_of
from distill_bench.benchmark.tasks import Task
from distill_bench.errors import Interrupted, UsageError
from distill_bench.runtime.progress import StreamMonitor

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra cluster is not installed")
SMALL_STORE = 80_000_000
CELL = SetCell("digits", "random", 1, 0, "cpu", ("quick-v1",))


def test_ray_is_not_imported_unless_asked_for(forked_python):
    code = (
        "import sys, distill_bench.cli, distill_bench.benchmark as suites; suites.check_executor('local');"
        "assert 'ray' not in sys.modules"
    )
    assert subprocess.run([forked_python, "-c", code], check=False).returncode == 0


def test_a_missing_ray_is_an_error_that_names_the_extra(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_ADDRESS", "unused")
    code, _, error = command("bench", "digits", "--executor", "ray")
    assert code == 2
    assert "pip install 'distill_bench[cluster]'" in error


class RayError(Exception):
    """As Ray's: the base class of what ends a task without a value."""


class Cluster(ModuleType):
    """As much of Ray as a run uses. A task ends at once, with the next of ``ends``: an exit code or an error."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, ends=(), **resources):
        super().__init__("ray")
        self.ends, self.resources, self.options, self.tasks, self.cancelled = list(ends), resources, {}, [], []

    def init(self, **options):
        self.init_options = options

    def shutdown(self):
        self.init_options = None

    def nodes(self):
        return [{"Alive": True, "Resources": self.resources}, {"Alive": False, "Resources": {"CPU": 99, "GPU": 9}}]

    def remote(self, **options):
        self.options = options
        return lambda function: SimpleNamespace(remote=lambda *told: self.tasks.append(told) or len(self.tasks))

    def wait(self, references, timeout):
        return references[:1], references[1:]

    def get(self, reference):
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def cancel(self, reference):
        self.cancelled.append(reference)


def on(device, method="dm"):
    cell = dataclasses.replace(CELL, method=method)
    return tasks_of(cell, BenchConfig("mine", Path("results"), device=device))


@pytest.fixture
def work(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    return tasks_of(CELL, BenchConfig("mine", tmp_path / "results"))


def run_on(cluster, works, monkeypatch, monitor=None, **options):
    monkeypatch.setattr(on_ray, "require_ray", lambda: cluster)
    return run_cells(works, "ray", None, monitor or StreamMonitor(quiet=True), quiet=True, **options)


@pytest.mark.parametrize(
    ("device", "resources", "asked"),
    [
        ("auto", {"CPU": 4}, {"num_cpus": 2, "num_gpus": 0}),
        ("auto", {"CPU": 4, "GPU": 1}, {"num_cpus": 2, "num_gpus": 1}),
        ("cuda", {"CPU": 4, "GPU": 1}, {"num_cpus": 2, "num_gpus": 1}),
        ("cpu", {"CPU": 4, "GPU": 1}, {"num_cpus": 2, "num_gpus": 0}),
    ],
)
def test_a_cell_asks_for_a_cpu_a_thread_and_for_a_gpu_where_it_runs_on_one(device, resources, asked):
    assert on_ray._request([resources], on(device), 2) == asked


@pytest.mark.parametrize(
    ("device", "threads", "complaint"),
    [
        ("cpu", 3, "asks for 3 CPUs and 0 GPUs, and no node of the cluster has them: the largest has 2 CPUs"),
        ("cuda", 1, "asks for 1 CPUs and 1 GPUs.* there are no GPUs. Change `threads`, `device` or"),
        ("cuda:1", 1, "a GPU of its own, or none. Give auto, cpu, cuda"),
    ],
)
def test_what_no_node_can_run_is_refused(device, threads, complaint):
    with pytest.raises(UsageError, match=complaint):
        on_ray._request([{"CPU": 2}], on(device), threads)


def test_a_recipe_says_what_its_cells_ask_for(tmp_path):
    nodes, recipe = [{"CPU": 8, "GPU": 2}], tmp_path / "large.toml"
    assert on_ray._request(nodes, on("auto", "random"), 1) == {"num_cpus": 1, "num_gpus": 0.25}
    recipe.write_text('base = "dm"\ntitle = "t"\n[resources]\ncpus = 4\ngpus = 2\n')
    assert on_ray._request(nodes, on("cuda", str(recipe)), 1) == {"num_cpus": 4, "num_gpus": 2}
    assert on_ray._request(nodes, on("cpu", str(recipe)), 6) == {"num_cpus": 6, "num_gpus": 0}
    with pytest.raises(UsageError, match=r"asks for 4 CPUs and 2 GPUs, and no node .*the recipe's resources"):
        on_ray._request([{"CPU": 8, "GPU": 1}, {"CPU": 2, "GPU": 4}], on("cuda", str(recipe)), 1)
    recipe.write_text('base = "dm"\ntitle = "t"\n[resources]\ngpus = 1.5\n')
    with pytest.raises(UsageError, match="whole GPUs alone"):
        on("cpu", str(recipe))


def test_room_is_counted_by_what_is_scarcest():
    nodes = [{"CPU": 8, "GPU": 1}, {"CPU": 3}]
    assert on_ray._room(nodes, {"num_cpus": 2, "num_gpus": 0}) == 5
    assert on_ray._room(nodes, {"num_cpus": 1, "num_gpus": 0.25}) == 4


def test_room_that_cells_leave_is_for_their_tasks_which_end_with_the_cell(work, monkeypatch):
    cluster = Cluster([0, RayError("cancelled"), RayError("cancelled")], CPU=3)
    asked, wait = [], cluster.wait

    def wait_long(references, timeout):
        asked.append(1)
        return wait(references, timeout) if len(asked) >= 5 else ([], references)

    open_tasks = [["network", number, "quick-v1"] for number in range(9)]
    monkeypatch.setattr(type(work), "open_tasks", lambda work: [Task(*task) for task in open_tasks])
    monkeypatch.setattr(cluster, "wait", wait_long)
    assert run_on(cluster, [work], monkeypatch) == 0
    told = [json.loads(line)["tasks"] for line, *_ in cluster.tasks]
    assert told == [[], open_tasks[:-3:-1], [open_tasks[6]]]
    assert cluster.cancelled == [2, 3] and not cluster.ends
    assert cluster.options["max_retries"] == 0


def test_tasks_whose_process_died_are_left_to_the_cell(work, monkeypatch):
    cluster = Cluster([RayError("died"), 0], CPU=2)
    monkeypatch.setattr(type(work), "open_tasks", lambda work: [Task("network", k, "quick-v1") for k in range(2)])
    monkeypatch.setattr(cluster, "wait", lambda references, timeout: (references[-1:], references[:-1]))
    assert run_on(cluster, [work], monkeypatch) == 0
    assert len(cluster.tasks) == 2 and not work.result_path("failed").exists()


def test_a_cell_that_ray_gave_up_has_failed_and_the_others_go_on(work, monkeypatch):
    works = [work, tasks_of(dataclasses.replace(CELL, seed=1), work.setting)]
    cluster = Cluster([RayError("the node is gone"), 0], CPU=1)
    assert run_on(cluster, works, monkeypatch) == 1
    assert cluster.options == {"num_cpus": 1, "num_gpus": 0, "max_retries": 3, "retry_exceptions": True}
    assert [work.state() for work in works] == ["failed", "missing"]
    assert "tried 4 times on Ray: the node is gone" in work.result_path("failed").read_text()


def test_a_request_to_stop_cancels_what_runs_and_begins_nothing(work, monkeypatch):
    class Stops(StreamMonitor):
        def say(self, text):
            self.stop_requested = True

    works = [work, tasks_of(CELL, work.setting), tasks_of(CELL, work.setting)]
    cluster, monitor = Cluster([0, RayError("cancelled"), 130], CPU=1), Stops()
    with pytest.raises(Interrupted):
        run_on(cluster, works, monkeypatch, monitor)
    assert cluster.cancelled == [2, 3]
    assert (cluster.ends, work.state()) == ([], "missing")


@pytest.mark.parametrize("error", [ConnectionError("nobody there"), RayError("no token")])
def test_a_cluster_that_lets_nobody_in_is_one_clear_error(work, monkeypatch, error):
    def init(**options):
        raise error

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster = Cluster(CPU=1)
    monkeypatch.setattr(cluster, "init", init)
    with pytest.raises(UsageError, match=f"no Ray at RAY_ADDRESS=10.0.0.1:6379: {error}"):
        run_on(cluster, [work], monkeypatch)


def test_the_cluster_of_this_machine_listens_to_this_machine_alone(work, monkeypatch):
    asked = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = Cluster([0, 0], CPU=9)
    monkeypatch.setattr(cluster, "init", lambda **options: asked.append(options))
    run_on(cluster, [work], monkeypatch, threads=9)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    run_on(cluster, [work], monkeypatch)
    local, remote = asked
    assert (local["address"], local["_node_ip_address"], local["num_cpus"]) == ("local", "127.0.0.1", 9)
    assert local["include_dashboard"] is False
    assert remote == {"address": "10.0.0.1:6379", "log_to_driver": False, "logging_level": "ERROR"}
    assert not list(work.setting.results.parent.rglob(".run-*"))


@pytest.mark.parametrize(
    ("end", "complaint"), [("os.kill(os.getpid(), 9)", "killed by signal 9"), ("exit(130)", "stopped")]
)
def test_a_process_that_was_killed_or_stopped_makes_ray_try_again(tmp_path, end, complaint):
    with pytest.raises(RuntimeError, match=complaint):
        on_ray._task()("", f"import os; {end}", str(tmp_path), [], {}, [])


def test_a_node_with_another_folder_says_so_and_others_run_the_worker_they_are_given(tmp_path):
    task, code = (
        on_ray._task(),
        "import os, sys; sys.exit(int(sys.stdin.readline()) + (os.environ['X'] == os.getcwd()))",
    )
    told = ("6\n", code, str(tmp_path), [], {"X": str(tmp_path)})
    assert task(*told, [str(tmp_path)]) == 7
    with pytest.raises(FileNotFoundError, match="not the folder that it is where the run was started"):
        task(*told, [str(tmp_path / "elsewhere" / "mark")])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The suite's folder, and what comes of it in one process."""
    folder = tmp_path_factory.mktemp("small")
    write(folder)
    finish(bench(folder, folder / "alone", "in-process"))
    return folder, outcome(folder / "alone")


@needs_ray
@pytest.mark.slow
def test_the_same_bytes_in_process_in_worker_processes_and_through_ray_where_one_is_killed(alone):
    folder, expected = alone
    assert len([name for name in expected if name.endswith("quick-v1")]) == CELLS
    finish(bench(folder, folder / "local", "local"))
    assert outcome(folder / "local") == expected
    process = bench(folder, folder / "ray", "ray", RAY_ADDRESS="")
    wait_until(lambda: begun(folder / "ray"), process)
    os.kill(begun(folder / "ray")[0].process, signal.SIGKILL)
    finish(process)
    assert len(begun(folder / "ray")) == 3  # two seeds, and the one that was killed
    assert outcome(folder / "ray") == expected


@needs_ray
@pytest.mark.slow
def test_the_ray_that_a_run_starts_is_at_127_0_0_1():
    code = (
        "from distill_bench.benchmark import on_ray\n"
        "ray = on_ray.require_ray()\nwith on_ray._connected(ray, 1, True):\n"
        "    print([node['NodeManagerAddress'] for node in ray.nodes()])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"RAY_ADDRESS": ""},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ).stdout
    assert said == b"['127.0.0.1']\n"


@needs_ray
@pytest.mark.slow
def test_two_processes_share_one_cell_and_make_the_same_bytes(alone):
    folder, _ = alone
    one = ("--only", f"method={folder / 'recovered.toml'},seed=0", "--networks", "4")
    finish(bench(folder, folder / "one task", "in-process", *one))
    finish(bench(folder, folder / "shared", "ray", *one, "--jobs", "2", RAY_ADDRESS=""))
    assert outcome(folder / "shared") == outcome(folder / "one task")


@needs_ray
@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_that_another_executor_brings_to_the_same_bytes(alone):
    folder, expected = alone
    home, one = folder / "stopped", ("--only", f"method={folder / 'matched.toml'},seed=0")
    process = bench(folder, home, "ray", *one, RAY_ADDRESS="")
    wait_until(lambda: any((home / "store/checkpoints").glob("*")), process)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == Interrupted.exit_code, said
    assert any((home / "store/checkpoints").glob("*"))
    assert not list((home / "results").rglob("*.failed.json"))
    finish(bench(folder, home, "local", *one))
    found = outcome(home)
    assert len(found) == 2 and found.items() <= expected.items()


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_node_killed_in_the_middle_costs_time_alone(alone):
    from ray.cluster_utils import Cluster as Nodes

    folder, expected = alone
    home, small = folder / "cluster", {"num_cpus": 1, "object_store_memory": SMALL_STORE, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=small)
    try:
        second = nodes.add_node(**small)
        raylet = second.all_processes["raylet"][0].process.pid
        process = bench(folder, home, "ray", RAY_ADDRESS=nodes.address)
        wait_until(lambda: raylet in [start.raylet for start in begun(home)], process)
        nodes.remove_node(second, allow_graceful=False)
        said = finish(process)
    finally:
        nodes.shutdown()
    assert f"[{CELLS}/{CELLS}]" in said
    assert len(begun(home)) == 3  # two seeds, and the one that was under way on the node
    assert outcome(home) == expected


def wait_until(happened, process, seconds=240):
    """Poll until something happened while a process runs."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
