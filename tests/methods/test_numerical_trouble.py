"""A method that turns NaN, explodes or wants too much memory: its cell fails with advice, the suite goes on."""

import json

import pytest
import torch

from distill_bench import RunFailed, errors, load_dataset, synthesize
from distill_bench.benchmark import BenchConfig, SetCell, run_cells, tasks_of
from distill_bench.errors import is_out_of_memory
from distill_bench.evaluation import PROTOCOLS
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.progress import StreamMonitor


@pytest.fixture
def trouble(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "networks": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    return tmp_path


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("loss", "failed at step 4 of 9: the loss is nan"),
        ("nan", "failed at step 4 of 9: images hold values that are not finite"),
        ("explodes", r"failed at step 4 of 9: images \(up to 1.95e\+03\) exploded: what means anything is within 535"),
        (
            "memory",
            r"ran out of memory at step 4 of 9 \(CUDA out of memory. Tried to allocate 20 GiB.\). "
            r"Lower `real_batch=…` \(now 256\), which bounds it",
        ),
        ("cpu", "ran out of memory at step 4 of 9 .*[Dd]efaultCPUAllocator.* Lower `real_batch=…`"),
        ("plain_nan", "returned what is no distilled set: 640 image values are NaN or infinite"),
        ("plain_memory", r"ran out of memory outside its loop \(MemoryError\). Lower the method's batch sizes or"),
    ],
)  # fmt: skip
def test_the_error_says_where_and_what_to_lower(trouble, digits, method, said):
    with pytest.raises(RunFailed, match=f"troubled:{method} at ipc 1, seed 5, {said}") as failed:
        synthesize(digits, f"troubled:{method}", 1, seed=5)
    assert failed.value.exit_code == 1
    if method in ("loss", "nan", "explodes"):
        assert "It has no checkpoint. Lower `image_lr=…` (now 0.5), and start again." in str(failed.value)


def test_the_last_good_checkpoint_is_named_and_is_good(trouble, digits):
    checkpoint = Checkpoint(trouble / "kept.safetensors", every_seconds=0.0)
    with pytest.raises(RunFailed, match=rf"step 4 of 9: .* Its last checkpoint, after step 3, is {checkpoint.path}\."):
        synthesize(digits, "troubled:nan", 1, checkpoint=checkpoint)
    saved = Checkpoint(checkpoint.path).load()
    assert saved["step"] == 4
    assert saved["learnables"]["images"].isfinite().all()


def test_an_inner_loop_that_diverges_ends_the_next_step_and_its_rate_is_named(digits):
    fields = {"iterations": 1, "outer_loop": 2, "network": "ConvNetD1W4", "real_batch": 8, "network_lr": 1e30}
    with pytest.raises(RunFailed, match=r"failed at step 1 of 2: the loss is nan.*`network_lr=…` \(now 1e\+30\)"):
        synthesize(digits, "dc", 1, **fields)


def test_an_error_of_another_kind_stays_what_it_is(trouble, digits):
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        synthesize(digits, "troubled:plain_bug", 1)


def test_every_method_names_fields_that_it_has(digits):
    from distill_bench.methods import load_method
    from distill_bench.methods.recipe import list_recipes

    configs = {name: load_method(name).config("digits", 1) for name in list_recipes()}
    tuned = {name: one for name, one in configs.items() if hasattr(one, "iterations") or hasattr(one, "teacher")}
    assert len(tuned) >= 29
    for name, fields in tuned.items():
        assert "=…`" in fields.hint(fields.lr_fields), name
        assert "=…`" in fields.hint(fields.memory_fields), name


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**58)
    assert is_out_of_memory(found.value)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("size mismatch")) and not is_out_of_memory(ValueError("out of memory"))
    assert errors.first_line(MemoryError()) == "MemoryError"


def test_a_suite_goes_on_and_its_board_shows_what_failed(trouble, command):
    methods = ["nan", "explodes", "memory", "plain_bug", "fine"]
    suite = trouble / "mine.toml"
    suite.write_text(
        'title = "t"\ndatasets = ["digits"]\nipc = [1]\nreference = "none"\n'
        f"methods = {json.dumps([f'troubled:{name}' for name in methods])}\n"
    )
    results = trouble / "results"
    arguments = ("bench", suite, "--executor", "in-process", "--results", results, "--json", "--quiet")
    code, out, err = command(*arguments)
    assert code == 1
    assert "4 of 5 cells failed" in err
    rows = {row["method"].split(":")[1]: row for row in json.loads(out)}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(methods, "failed") | {"fine": "done"}
    board = (results / "mine" / "leaderboard.md").read_text()
    assert all(f"troubled:{name}" in board for name in methods) and board.count("failed") >= 4
    reasons = [json.loads(path.read_text())["error"] for path in results.rglob("*.failed.json")]
    assert len(reasons) == 4
    assert sum("failed at step 4 of 9" in reason for reason in reasons) == 2
    assert any("Lower `real_batch=…`" in reason for reason in reasons)


def test_a_worker_that_ends_before_it_begins_is_a_failed_cell(trouble, monkeypatch):
    work = tasks_of(SetCell("digits", "random", 1, 0, "cpu", ("quick-v1",)), BenchConfig("mine", trouble / "results"))
    monkeypatch.setattr("distill_bench.benchmark.executor.WORKER", "import sys; sys.stdin.readline(); sys.exit(7)")
    assert run_cells([work], "local", 1, StreamMonitor(quiet=True)) == 1
    assert work.state() == "failed"
    assert "exit code 7 before it began" in json.loads(work.result_path("failed").read_text())["error"]


def test_the_command_says_it_where_nothing_else_does(monkeypatch, command):
    def starving(*_, **__):
        raise MemoryError("not a byte")

    monkeypatch.setattr("distill_bench.datasets.load_dataset", starving)
    code, _, err = command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", "x.safetensors")
    assert code == 1
    assert err.startswith("error: ran out of memory (not a byte). Lower a batch size")


def test_a_teacher_and_an_expert_that_diverge_say_whose_rate_to_lower(trouble):
    from distill_bench.datasets.pixel_space import pixel_space_of
    from distill_bench.datasets.training_view import TrainingData
    from distill_bench.pretrained.experts import ExpertRecipe, get_or_train_experts
    from distill_bench.pretrained.teachers import TeacherRecipe, get_or_train_teacher

    source = load_dataset("digits")
    training = TrainingData(source, pixel_space_of(source, "normalized"), torch.device("cpu"))
    wild = {"learning_rate": 1e20, "epochs": 2}
    with pytest.raises(RunFailed, match=r"teacher ConvNetD1W4 on digits, seed 3: .*nan.*`teacher.learning_rate=…`"):
        get_or_train_teacher(training, TeacherRecipe(network="ConvNetD1W4", **wild), 3)
    with pytest.raises(RunFailed, match=r"expert 0, ConvNetD1W4 on digits: .*`expert.learning_rate=…`"):
        get_or_train_experts(training, "ConvNetD1W4", ExpertRecipe(**wild), 1)
