import dataclasses
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_suite
import torch
from filelock import FileLock
from kill_suite import same, survive
from waiting import until

from distill_bench import synthesize
from distill_bench.benchmark import (
    BenchConfig,
    CellTasks,
    ReferenceCell,
    SetCell,
    executor,
    expand,
    grid,
    list_suites,
    load_suite,
    parse_only,
    run_cells,
    tasks_of,
    worker,
)
from distill_bench.benchmark.cells import slug
from distill_bench.benchmark.leaderboard import board
from distill_bench.benchmark.tasks import Task
from distill_bench.distilled.budget import Budget
from distill_bench.errors import Interrupted, UsageError
from distill_bench.evaluation import load_protocol, scoring
from distill_bench.methods.recipe import PAPER
from distill_bench.methods.run import Piece
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import StreamMonitor

CELL = SetCell("digits", "random", 1, 0, "cpu", ("quick-v1",))


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A cache of its own, and protocols that take a moment."""
    from distill_bench.evaluation import PROTOCOLS

    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 2, "networks": 2, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    return BenchConfig("mine", tmp_path / "results")


def run(works: list[CellTasks]) -> int:
    return run_cells(works, "in-process", 1, StreamMonitor(quiet=True))


def test_a_suite_of_probes_has_a_cell_of_either_line_under_each_protocol():
    suite = load_suite("self-supervised")
    cells = expand(suite, parse_only("dataset=digits"))
    lines = [cell for cell in cells if isinstance(cell, ReferenceCell)]
    assert [cell.method for cell in lines] == ["full", "untrained"] and len(suite.protocols) == 6
    assert all(cell.protocols == suite.protocols for cell in cells)
    assert len({str(cell.result_name(name)) for cell in lines for name in cell.protocols}) == 12
    (only,) = expand(suite, parse_only("dataset=digits,method=untrained,protocol=probe-v1-linear-5"))
    assert (only.method, only.protocols) == ("untrained", ("probe-v1-linear-5",))


def test_a_suite_has_all_of_its_grid():
    digits = load_suite("digits")
    cells = expand(digits, {})
    assert len(cells) == len(digits.methods) * len(digits.ipc) * len(digits.seeds) + 1
    assert {1, 2, 5, 10} <= set(digits.ipc)
    assert cells[-1] == ReferenceCell("digits", ("full-v1",))


@pytest.mark.parametrize("name", list_suites())
def test_every_suite_that_comes_along_has_values_for_its_cells(name, monkeypatch, tmp_path, digits):
    """Published sets, which are not here, are another one."""
    synthesize(digits, "random", 1).save(tmp_path / "set.safetensors")
    downloaded = SimpleNamespace(paths=[tmp_path / "set.safetensors"])
    monkeypatch.setattr(grid, "obtain", lambda name, may_download: downloaded)
    suite = load_suite(name)
    datasets = suite.datasets or ("digits",)
    first = {
        (cell.dataset, cell.method, cell.ipc): cell
        for cell in expand(suite.adapted(datasets, (), None, suite.holdout), {})
        if isinstance(cell, SetCell)
    }
    assert first
    for (dataset, _, ipc), cell in first.items():
        method = cell.load_method()
        preset = cell.preset if cell.preset in method.recipe.preset else PAPER
        assert method.config(dataset, ipc or 10, preset) and load_protocol(cell.protocols[0])


def test_only_keeps_what_it_names():
    digits = load_suite("digits")
    cells = expand(digits, parse_only("method=dm,ipc=1,ipc=10,seed=0,protocol=quick-v1"))
    assert [(c.method, c.ipc, c.seed, c.protocols) for c in cells] == [
        ("dm", 1, 0, ("quick-v1",)),
        ("dm", 10, 0, ("quick-v1",)),
    ]
    assert [c.method for c in expand(digits, parse_only("method=full"))] == ["full"]
    with pytest.raises(UsageError, match="'methd=dm' is not key=value with a key of dataset, method"):
        parse_only("methd=dm")
    assert [c.method for c in expand(digits, parse_only("protocol=full-v1"))] == ["full"]
    with pytest.raises(UsageError, match="the filter leaves no cell of suite digits"):
        expand(digits, parse_only("protocol=full-v1,method=dm"))


@pytest.mark.parametrize(
    ("only", "allowed"),
    [
        ("method=typo,method=dm", "`only=method=typo`: suite digits has method random, herding"),
        ("ipc=99,ipc=1", "`only=ipc=99`: suite digits has ipc 1, 2, 5, 10"),
        ("seed=7", "`only=seed=7`: suite digits has seed 0, 1, 2"),
        ("dataset=mnist", "`only=dataset=mnist`: suite digits has dataset digits"),
        ("protocol=dc-v1", "`only=protocol=dc-v1`: suite digits has protocol quick-v1, standard-v1, full-v1"),
    ],
)
def test_a_filter_on_what_no_cell_has_names_what_they_have(only, allowed):
    with pytest.raises(UsageError, match=allowed):
        expand(load_suite("digits"), parse_only(only))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"methods": ("dm", "random", "dm")}, "has the method dm twice"),
        ({"ipc": (1, 1)}, "has the ipc 1 twice"),
        ({"datasets": ("digits", "digits")}, "has the dataset digits twice"),
        ({"protocols": ("quick-v1", "quick-v1")}, "has the protocol quick-v1 twice"),
        ({"preset": "cpuu"}, "no recipe has a preset 'cpuu'. Known: cpu, paper"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(change, complaint):
    with pytest.raises(UsageError, match=complaint):
        expand(load_suite("digits").model_copy(update=change), {})


def test_make_bench_names_its_methods():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    methods, only = (re.search(pattern, makefile)[1] for pattern in (r"METHODS := (\S+)", r"--only (\S+) --jobs"))
    cells = expand(load_suite("digits"), parse_only(only.replace("$(METHODS)", methods)))
    assert {cell.method for cell in cells} == {"random", "dm", "dc", "dsa", "full"}
    assert len(cells) == 4 * 2 + 1


def test_no_two_names_share_a_file():
    names = ["folder:a/b", "folder:a-b", "folder-a-b", "folder:a b", "digits", "módulo:función"]
    assert len({slug(name) for name in names}) == len(names)
    assert slug("digits") == "digits" and slug("folder-a-b") == "folder-a-b"
    assert all(re.fullmatch(r"[\w.-]+", slug(name)) for name in names)


def test_a_process_that_our_stop_killed_is_no_failed_cell(quick, monkeypatch):
    class Stopping(StreamMonitor):
        """Is asked to stop as soon as a worker runs."""

        said = ""

        def say(self, text):
            self.said += text

    def start(line):
        monitor.stop_requested = True
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE, text=True)

    monitor = Stopping(quiet=True)
    monkeypatch.setattr("distill_bench.benchmark.executor._process", start)
    work = tasks_of(CELL, quick)
    with pytest.raises(Interrupted):
        run_cells([work], "local", 1, monitor)
    assert monitor.said == ""
    assert not work.result_path("failed").exists()


def test_a_process_that_ends_before_it_reads_its_order_is_one_failed_cell(quick, monkeypatch):
    """A broken pipe within is no closed standard output, at which the command line would stop without a word."""

    class DiesAtOnce(subprocess.Popen):
        def __init__(self, command, **options):
            # by default again: a shell's background work is begun with interrupts ignored
            die = "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), 2)"
            super().__init__([command[0], "-c", die], **options)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            monitor.stop_requested = stopping

    monkeypatch.setattr("distill_bench.benchmark.executor.subprocess.Popen", DiesAtOnce)
    monitor, stopping = StreamMonitor(quiet=True), False
    works = [tasks_of(CELL, quick)]
    assert run_cells(works, "local", 1, monitor) == 1
    assert "killed by signal 2" in json.loads(works[0].result_path("failed").read_text())["error"]
    stopping = True
    with pytest.raises(Interrupted):
        run_cells(works, "local", 1, monitor)


GRID = "title = 't'\ndatasets = ['digits']\nipc = [1, 10]\n"


def written(folder, text):
    (folder / "mine.toml").write_text(GRID + text)
    return load_suite(str(folder / "mine.toml"))


def test_every_combination_of_listed_values_is_a_variant(tmp_path):
    each = "each = { flip = [true, false], image_lr = [1.0, 0.3] }, set = { iterations = 3 }"
    suite = written(tmp_path, f"methods = ['random', {{ method = 'dm', {each}, as = 'dm {{image_lr}} {{flip}}' }}]")
    cells = [cell for cell in expand(suite, parse_only("ipc=1")) if cell.method not in ("random", "full")]
    assert [cell.method for cell in cells] == ["dm 1.0 True", "dm 0.3 True", "dm 1.0 False", "dm 0.3 False"]
    assert cells[1].of == "dm" and cells[1].settings == {"iterations": 3, "flip": True, "image_lr": 0.3}


def test_a_variant_is_run_at_its_own_budgets(tmp_path):
    one = "{ method = 'dm', ipc = [1], set = { image_lr = 1.0 }, as = 'tuned' }"
    ten = "{ method = 'dm', ipc = [10], set = { image_lr = 9.0 }, as = 'tuned' }"
    suite = written(tmp_path, f"methods = [{one}, {ten}]\nreference = 'none'")
    assert [(cell.ipc, cell.settings["image_lr"]) for cell in expand(suite, {})] == [(1, 1.0), (10, 9.0)]
    assert [len(suite.named(*each)) for each in (("tuned", Budget(1)), ("tuned", Budget(2)), ("dm", Budget(1)))] == [
        1,
        0,
        0,
    ]
    both = written(tmp_path, f"methods = [{one}, {ten.replace('[10]', '[1, 10]')}]")
    with pytest.raises(UsageError, match="has the method tuned twice"):
        expand(both, {})


def test_each_set_is_scored_under_the_protocol_of_its_card(tmp_path):
    tuned = "{ method = 'mtt', set = { image_lr = 9.0 }, as = 'tuned' }"
    suite = written(tmp_path, f"methods = ['dc', {tuned}]\nprotocols = ['card', 'dsa-v1']\nreference = 'none'")
    assert {cell.method: cell.protocols for cell in expand(suite, {})} == {
        "dc": ("dc-v1", "dsa-v1"),
        "tuned": ("mtt-v1", "dsa-v1"),
    }
    of_targets = written(tmp_path, "methods = ['random-targets']\nprotocols = ['card']\nreference = 'none'")
    assert expand(of_targets, {})[0].protocols == load_suite("self-supervised").protocols, "a name for several"
    only = expand(suite, parse_only("protocol=mtt-v1,ipc=1"))
    assert [(cell.method, cell.protocols) for cell in only] == [("tuned", ("mtt-v1",))]
    with pytest.raises(UsageError, match="has protocol dc-v1, dsa-v1, mtt-v1"):
        expand(suite, parse_only("protocol=dm-v1"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("title = 't'", "datasets: Field required"),
        ("title = 't'\ndatasets = []\nmethods = []\nipc = [0]", "ipc.0: Input should be greater than 0"),
        ("title = 't'\ndatasets = []\nmethods = []\nipc = [1]\nprotocols = ['x']", "unknown protocol 'x'"),
        ("title = 't'\ndatasets = []\nmethods = []\nipc = [1]\nseed = 1", "seed: Extra inputs"),
        ("title = 't'\ndatasets = []\nmethods = []\nipc = [1]\nprotocols = ['full-v1']", "full-v1 scores a whole"),
        ("title = 't'\ndatasets = []\nmethods = []\nipc = [1]\nreference = 'quick-v1'", "quick-v1 scores distilled"),
        ("=", "not valid TOML"),
        (
            GRID + "methods = [{ method = 'dm', each = { image_lr = [1.0] }, as = 'dm' }]",
            r"put \{image_lr\} into its `as`",
        ),
        (
            GRID + "methods = [{ method = 'dm', each = { image_lr = [] }, as = '{image_lr}' }]",
            "methods.0.variant.each.image_lr: List should have at least 1 item",
        ),
        (
            GRID + "methods = [{ method = 'dm', set = { flip = true }, each = { flip = [true] }, as = '{flip}' }]",
            "'{flip}' has flip in set and in each",
        ),
        (
            GRID + "methods = [{ method = 'dm', set = { flip = true }, ipc = [2], as = 'a' }]",
            "'a' is to be run at ipc 2, which the suite has not",
        ),
    ],
)
def test_a_bad_suite_is_one_clear_error(tmp_path, text, complaint):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        load_suite(str(tmp_path / "bad.toml"))


def test_a_cell_goes_from_missing_to_done_and_is_not_done_again(quick):
    work = tasks_of(CELL, quick)
    assert work.state() == "missing"
    assert run([work]) == 0
    assert work.state() == "done"
    result = work.result_path("quick-v1")
    before = result.stat().st_mtime_ns
    assert run([tasks_of(CELL, quick)]) == 0
    assert result.stat().st_mtime_ns == before
    content = json.loads(result.read_text())
    assert content["kind"] == "score"
    assert (content["dataset"], content["method"], content["ipc"], content["seed"]) == ("digits", "random", 1, 0)
    assert len(content["accuracies"]) == content["networks"] == 2
    assert {"git_commit", "dirty", "threads", "torch", "seconds"} <= set(content["run"])
    assert content["run"]["device"] == content["synthesis"]["device"] == "cpu"
    assert content["synthesis"]["peak_memory_mb"] is None  # of a process that did other things too


def test_results_of_another_machine_are_made_again_here(quick, monkeypatch, tmp_path):
    run([tasks_of(CELL, quick)])
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "another"))
    assert tasks_of(CELL, quick).state() == "missing"


def test_a_lost_result_is_filed_again_from_the_store(quick):
    work = tasks_of(CELL, quick)
    run([work])
    content = work.result_path("quick-v1").read_text()
    work.result_path("quick-v1").unlink()
    assert work.state() == "partial"
    run([work])
    assert work.result_path("quick-v1").read_text() == content


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "of another kind": lambda content: b"[]",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(
    "pattern",
    [
        *(f"home/store/{name}" for name in ("sets/*.safetensors", "sets/*.json", "scores/*.json")),
        "results/**/*-v1.json",
    ],
)
def test_what_cannot_be_read_counts_as_missing_and_is_made_again(quick, tmp_path, caplog, pattern, damage):
    work = tasks_of(CELL, quick)
    run([work])
    whole = json.loads(work.result_path("quick-v1").read_text())
    damaged = list(tmp_path.glob(pattern))
    assert damaged
    for path in damaged:
        path.write_bytes(damage(path.read_bytes()))
    if "results" not in pattern:
        work.result_path("quick-v1").unlink()
    assert work.state() in ("partial", "missing")
    assert run([work]) == 0
    assert work.state() == "done"
    assert any(str(damaged[0].parent) in line and "missing" in line for line in caplog.messages)
    again = json.loads(work.result_path("quick-v1").read_text())
    assert (again["accuracies"], again["set_sha256"]) == (whole["accuracies"], whole["set_sha256"])


PICK = "job.training.images(torch.cat([i[{0} - 1 : {0}] for i in job.training.class_indices]))"


def test_a_failure_of_changed_code_is_what_the_board_shows(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = dataclasses.replace(CELL, method="fickle_method:fickle")
    statuses = []
    for body in (PICK.format(1), "1 / 0", PICK.format(2)):
        (tmp_path / "fickle_method.py").write_text(f"import torch\ndef fickle(job):\n    return {body}\n")
        sys.modules.pop("fickle_method", None)
        importlib.invalidate_caches()
        work = tasks_of(cell, quick)
        assert work.state() == "missing"
        run([work])
        (row,) = board(quick.results)
        statuses.append((row["status"], work.state()))
    assert statuses == [("done", "done"), ("failed", "failed"), ("done", "done")]


def test_a_cell_of_which_only_a_part_is_kept_has_begun(quick):
    work = tasks_of(CELL, quick)
    assert work.state() == "missing"
    Checkpoint(work.stored.checkpoint_path).part("batch0").save({"x": torch.ones(1)})
    assert work.state() == "partial"


def test_more_networks_join_those_that_were_tested(quick):
    run([tasks_of(CELL, dataclasses.replace(quick, networks=1))])
    work = tasks_of(CELL, dataclasses.replace(quick, networks=3))
    one = json.loads(work.result_path("quick-v1").read_text())
    assert work.state() == "partial"
    run([work])
    three = json.loads(work.result_path("quick-v1").read_text())
    assert (len(one["accuracies"]), len(three["accuracies"])) == (1, 3)
    assert three["accuracies"][0] == one["accuracies"][0]
    assert tasks_of(CELL, dataclasses.replace(quick, networks=1)).state() == "partial"


def test_resized_and_held_out_data_are_filed_apart():
    cell = dataclasses.replace(CELL, size=16, holdout=0.2)
    assert cell.data == "digits at 16 px holdout 0.2"
    assert cell.result_name("quick-v1").parts[0].startswith("digits-at-16-px-holdout-0.2-")
    assert cell.result_name("quick-v1").parts[1:] == ("random", "ipc1-seed0.quick-v1.json")
    assert str(CELL.result_name("quick-v1")) == "digits/random/ipc1-seed0.quick-v1.json"


def test_two_runners_at_once_do_every_cell_once(quick, monkeypatch, tmp_path):
    code = "import time\nbegun = []\ndef slow(job):\n    begun.append(job.seed)\n    time.sleep(0.05)\n    return "
    (tmp_path / "slow_method.py").write_text("import torch\n" + code + PICK.format(1) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cells = [dataclasses.replace(CELL, method="slow_method:slow", seed=seed) for seed in range(4)]
    runners = [[tasks_of(cell, quick) for cell in cells] for _ in range(2)]
    failed = []
    threads = [threading.Thread(target=lambda works=works: failed.append(run(works))) for works in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [0, 0]
    assert sorted(sys.modules["slow_method"].begun) == [0, 1, 2, 3]
    assert {work.state() for work in runners[0]} == {"done"}


def hold(work: CellTasks) -> subprocess.Popen:
    """Another process that is at a cell until it is killed."""
    work.lock.parent.mkdir(parents=True, exist_ok=True)
    code = f"import time; from filelock import FileLock; lock = FileLock({str(work.lock)!r}); lock.acquire()"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(1, flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


class Nobody(executor.InProcess):
    """Takes orders and does nothing."""

    def __init__(self, room=1):
        self.room = self.room_for_cells = room
        self.orders = []

    def __len__(self):
        return len(self.orders)

    def start(self, order):
        self.orders.append(order)

    def ended(self):
        ended, self.orders = self.orders, []
        return [(order, 130, "") for order in ended]


def test_a_cell_that_another_runner_is_at_is_passed_by_and_a_dead_runner_holds_none(quick):
    first, second = works = [tasks_of(dataclasses.replace(CELL, seed=seed), quick) for seed in range(2)]
    with hold(first) as other:
        runner = executor._Runner(works, Nobody(), StreamMonitor(quiet=True))
        assert [runner._next().work for _ in works] == [second, first]
        other.send_signal(signal.SIGKILL)
    assert first.lock.exists()
    assert executor._Runner(works, Nobody(), StreamMonitor(quiet=True))._next().work == first
    assert run([first]) == 0
    assert first.state() == "done"


def test_who_waits_for_another_runner_can_be_stopped(quick, monkeypatch):
    monkeypatch.setattr("distill_bench.runtime.locks.LOCK_POLL_SECONDS", 0.01)
    work, monitor = tasks_of(CELL, quick), StreamMonitor(quiet=True)
    monitor.stop_requested = True
    work.lock.parent.mkdir(parents=True)
    with FileLock(work.lock), pytest.raises(Interrupted, match="waiting for another process that does the same cell"):
        work.run(monitor)


def test_a_process_that_another_than_us_stopped_is_started_again(quick, monkeypatch):
    codes, said = [130, 0], []
    monitor = StreamMonitor()
    monkeypatch.setattr(monitor, "say", said.append)

    def start(line):
        return subprocess.Popen([sys.executable, "-c", f"exit({codes.pop(0)})"], stdin=subprocess.PIPE, text=True)

    monkeypatch.setattr("distill_bench.benchmark.executor._process", start)
    assert run_cells([tasks_of(CELL, quick)], "local", 1, monitor) == 0
    assert codes == [] and len(said) == 1


def test_networks_that_another_process_tested_are_not_tested_again(quick, monkeypatch):
    work, monitor = tasks_of(CELL, quick), StreamMonitor(quiet=True)
    assert work.open_tasks() == []  # before there is a set, nothing of this method can be done apart
    with monkeypatch.context() as patch:
        patch.setattr(type(work), "_score_keys", lambda *_: {})
        work.run(monitor)
    assert work.open_tasks() == [Task("network", 0, "quick-v1"), Task("network", 1, "quick-v1")]
    work.do([Task("network", 1, "quick-v1")], monitor)
    assert work.open_tasks() == [Task("network", 0, "quick-v1")]
    work.do(work.open_tasks(), monitor)
    assert work.open_tasks() == [] and work.state() == "partial"
    assert not list(quick.results.rglob("*quick-v1.json"))
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "train", lambda *_, **__: pytest.fail("trained a network again"))
        work.run(monitor)
    apart = json.loads(work.result_path("quick-v1").read_text())["accuracies"]
    shutil.rmtree(cache_dir() / "store" / "networks")
    shutil.rmtree(cache_dir() / "store" / "scores")
    work.run(monitor)
    assert json.loads(work.result_path("quick-v1").read_text())["accuracies"] == apart


def test_a_set_that_cannot_be_read_is_made_again_by_one_process(quick):
    work = tasks_of(dataclasses.replace(CELL, method="sre2l"), quick)
    work.set_path.parent.mkdir(parents=True)
    work.set_path.write_bytes(b"damaged")
    assert work.open_tasks() == []


def test_pretraining_comes_before_parts_and_both_are_made_apart(quick, monkeypatch, tmp_path):
    (tmp_path / "two.toml").write_text(
        small_suite.RECIPES["recovered"].replace("per_batch = 1", "per_batch = 5").replace("= 200", "= 5")
    )
    cell = dataclasses.replace(CELL, method=str(tmp_path / "two.toml"), preset="paper")
    work, monitor = tasks_of(cell, quick), StreamMonitor(quiet=True)
    assert work.open_tasks() == [Task("pretrain", 0)] and len(work.needs()) == 1
    work.do(work.open_tasks(), monitor)
    assert work.needs() == set()
    assert work.open_tasks() == [Task("part", 0), Task("part", 1)]
    work.do([Task("part", 1)], monitor)
    assert work.state() == "partial" and not work.set_path.exists()
    assert run([work]) == 0 and not list(work.stored.checkpoint_path.parent.iterdir())
    apart = work.set_path.read_bytes()
    work.do([Task("part", 1)], monitor)  # too late: nothing is done, and nothing left behind
    assert not list(work.stored.checkpoint_path.parent.iterdir())
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "another"))
    assert run([tasks_of(cell, quick)]) == 0
    assert tasks_of(cell, quick).set_path.read_bytes() == apart


def test_a_part_that_is_overtaken_by_the_set_leaves_nothing(quick, monkeypatch):
    work = tasks_of(dataclasses.replace(CELL, method="sre2l"), quick)

    def overtaken(run):
        def make():
            run.checkpoint.part("batch0").save({"x": torch.ones(1)})
            work.set_path.parent.mkdir(parents=True)
            work.set_path.touch()
            raise Interrupted("stopped")

        return [Piece(work.set_path, make)]

    monkeypatch.setattr("distill_bench.benchmark.tasks.parts_of", lambda function: overtaken)
    with pytest.raises(Interrupted):
        work.do([Task("part", 0)], StreamMonitor(quiet=True))
    assert not list(work.stored.checkpoint_path.parent.iterdir())


class Tasks(CellTasks):
    """A cell whose open tasks are told, and whose pretrained networks have names."""

    def __init__(self, tasks=(), needs=()):
        self.cell, self.key, self.tasks = CELL, "a key", list(tasks)
        self._needs = {Path(name) for name in needs}

    def stored_set(self):
        return None

    def state(self):
        return "missing"

    def open_tasks(self):
        return self.tasks

    def needs(self):
        return self._needs


def handed_out(runner):
    """Begin what can be begun."""
    while order := runner._next():
        runner._running.append(order)
        runner._workers.start(order)
    return [(order.work, [task.number for task in order.tasks]) for order in runner._workers.orders]


def test_processes_without_a_cell_of_their_own_get_tasks_from_the_end(quick):
    work = Tasks([Task("network", number, "quick-v1") for number in range(10)])
    runner = executor._Runner([work], Nobody(room=3), StreamMonitor(quiet=True))
    assert handed_out(runner) == [(work, []), (work, [9, 8]), (work, [7])]
    runner._workers.orders.pop()
    assert handed_out(runner)[2:] == [(work, [6])]  # nothing is handed out twice
    work.tasks = work.tasks[:1]
    runner._workers.orders.pop()
    assert len(handed_out(runner)) == 2  # the last task is that of the process at the cell


def test_a_cell_waits_for_the_networks_that_another_one_trains_and_its_process_trains_some(quick):
    experts = [Task("pretrain", number) for number in range(4)]
    first, same, other = Tasks(experts, ["e"]), Tasks(experts, ["e"]), Tasks([], ["f"])
    runner = executor._Runner([first, same, other], Nobody(room=3), StreamMonitor(quiet=True))
    assert handed_out(runner) == [(first, []), (other, []), (first, [3])]
    first._needs = set()
    runner._workers.orders.pop()
    assert handed_out(runner)[2:] == [(same, [])]


def test_a_failed_task_of_a_cell_that_another_process_does_is_no_failed_cell(quick, monkeypatch):
    work = tasks_of(CELL, quick)
    monkeypatch.setattr(type(work), "do", lambda *_: 1 / 0)
    assert worker.Order(work, (Task("network", 1, "quick-v1"),)).run(StreamMonitor(quiet=True)) == 1
    assert not work.result_path("failed").exists()


def test_a_runner_does_tasks_of_a_cell_that_another_is_at_and_then_waits(quick, monkeypatch):
    work = tasks_of(CELL, quick)
    monkeypatch.setattr(type(work), "open_tasks", lambda _: [Task("network", k, "quick-v1") for k in range(2)])
    runner = executor._Runner([work], Nobody(), StreamMonitor(quiet=True))
    with hold(work) as other:
        assert [runner._next().tasks, runner._next().tasks] == [(Task("network", 1, "quick-v1"),), ()]
        other.kill()


@pytest.mark.slow
def test_processes_that_share_a_cell_make_the_same_bytes(tmp_path):
    small_suite.write(tmp_path)
    only = ("--only", f"method={tmp_path / 'recovered.toml'},seed=0", "--networks", "4")
    small_suite.finish(small_suite.bench(tmp_path, tmp_path / "one", "in-process", *only))
    small_suite.finish(small_suite.bench(tmp_path, tmp_path / "three", "local", *only, "--jobs", "3"))
    assert small_suite.outcome(tmp_path / "three") == small_suite.outcome(tmp_path / "one")


def test_a_failure_of_another_runner_counts_and_is_not_repeated(quick, monkeypatch, tmp_path):
    code = (
        "import torch\nbegun = []\ndef broken(job):\n    begun.append(1)\n    1 / 0\ndef other(job):\n    meanwhile()\n"
    )
    (tmp_path / "other_method.py").write_text(f"{code}    return {PICK.format(1)}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    first, second = (dataclasses.replace(CELL, method=f"other_method:{name}") for name in ("other", "broken"))
    works = [tasks_of(first, quick), tasks_of(second, quick)]
    module = sys.modules["other_method"]
    module.meanwhile = lambda: run([tasks_of(second, quick)])
    assert run(works) == 1
    assert (module.begun, works[0].state()) == ([1], "done")
    assert run(works) == 1
    assert module.begun == [1, 1]  # what had failed before is tried again


def test_what_another_runner_did_meanwhile_starts_no_process(quick, monkeypatch):
    works = [tasks_of(CELL, quick), tasks_of(CELL, quick)]
    run(works[:1])
    monkeypatch.setattr("distill_bench.benchmark.executor._process", lambda *told: pytest.fail("a process was started"))
    assert run_cells(works, "local", 1, StreamMonitor(quiet=True)) == 0


@pytest.mark.slow
def test_two_runners_one_of_them_killed_make_the_same_bytes(tmp_path):
    small_suite.write(tmp_path)
    only = ("--only", f"method={tmp_path / 'matched.toml'}")
    small_suite.finish(small_suite.bench(tmp_path, tmp_path / "alone", "in-process", *only))
    home = tmp_path / "both"
    killed, other = (small_suite.bench(tmp_path, home, "local", *only) for _ in range(2))
    until(lambda: small_suite.begun(home), killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    small_suite.finish(other)
    assert small_suite.outcome(home) == small_suite.outcome(tmp_path / "alone")
    assert len(small_suite.begun(home)) <= 3  # two sets, and one that the killed runner may have been at


def test_another_seed_ipc_or_data_is_another_address(quick):
    cells = [CELL] + [dataclasses.replace(CELL, **change) for change in ({"seed": 1}, {"ipc": 2}, {"holdout": 0.2})]
    assert len({tasks_of(cell, quick).key for cell in cells}) == 4


def test_a_failing_method_is_filed_and_the_others_go_on(quick, monkeypatch, tmp_path, capsys):
    (tmp_path / "broken_method.py").write_text("def broken(job):\n    raise ValueError('no such luck')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = tasks_of(dataclasses.replace(CELL, method="broken_method:broken"), quick)
    fine = tasks_of(CELL, quick)
    assert run([broken, fine]) == 1
    assert (broken.state(), fine.state()) == ("failed", "done")
    assert json.loads(broken.result_path("failed").read_text())["error"] == "ValueError: no such luck"
    assert "no such luck" in capsys.readouterr().err


def test_the_reference_line(quick, monkeypatch):
    from distill_bench.evaluation import PROTOCOLS

    short = PROTOCOLS["full-v1"].model_copy(update={"epochs": 1, "minimum_steps": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "full-v1", short)
    work = tasks_of(ReferenceCell("digits", ("full-v1",)), quick)
    assert run([work]) == 0
    content = json.loads((quick.results / "mine/digits/full/full-seed0.full-v1.json").read_text())
    assert content["ipc"] is None
    assert content["method"] == "full"
    assert content["bytes"] == 1438 * (64 + 8)


def test_a_learned_rate_or_soft_labels_bring_a_strict_row(quick, monkeypatch, tmp_path):
    code = """
import torch
from distill_bench import SynthesisResult
def soft(job):
    images = torch.cat([job.training.draw(c, job.ipc, job.generator("pick", c)) for c in range(job.classes)])
    logits = torch.nn.functional.one_hot(job.labels, job.classes) * 5.0
    return SynthesisResult(images, job.labels, soft_labels=logits, label_kind="logits", learning_rate=0.02)
"""
    (tmp_path / "soft_method.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    work = tasks_of(dataclasses.replace(CELL, method="soft_method:soft"), quick)
    assert run([work]) == 0
    stored, strict = (json.loads(work.result_path(e).read_text()) for e in ("quick-v1", "quick-v1.hard"))
    assert (stored["labels"], stored["learning_rate"]) == ("soft", 0.02)
    assert (strict["labels"], strict["learning_rate"]) == ("hard", 0.01)


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_bytes(tmp_path):
    found = survive(2, tmp_path, seed=1, methods=["dm"], reference="none", in_processes=0)
    assert (found["kills"], found["cells"], found["files_compared"]) == (2, 1, 5)
    assert same(found), found


@pytest.mark.slow
def test_killed_suites_and_workers_resume_to_the_same_bytes(tmp_path):
    found = survive(6, tmp_path, seed=2, methods=["random", "dm", "datm", "sre2l"], reference="none", in_processes=2)
    assert (found["kills"], found["killed"]["worker"], found["cells"]) == (6, 1, 4)
    assert same(found), found
