"""The command: what people type, its exit codes, and where its output goes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from folders import images_folder
from short_protocol import short_protocol
from waiting import until

from distill_bench import load_dataset
from distill_bench.benchmark.results import read_results
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import DataError
from distill_bench.evaluation import scoring
from distill_bench.runtime.run_info import code_state


def made(method, *options, dataset="digits", ipc=1, out="x.safetensors"):
    """The words of a command that makes a set."""
    return ["synthesize", method, "--dataset", dataset, "--ipc", ipc, "--out", out, *options]


QUICK_DM = ["--set", "iterations=5", "--set", "real_batch=8", "--set", "network=ConvNetD1W4"]


@pytest.fixture
def quick(monkeypatch):
    """Protocols that take a moment."""
    from distill_bench.evaluation import PROTOCOLS

    for name in ("quick-v1", "standard-v1", "dsa-v1"):
        short = {"epochs": 2, "networks": 2, "network": "ConvNetD1W4"}
        monkeypatch.setitem(PROTOCOLS, name, PROTOCOLS[name].model_copy(update=short))


def test_synthesize_evaluate_render_info(command, quick, tmp_path):
    out = tmp_path / "dm.safetensors"
    code, said, _ = command("synthesize", "dm", "--dataset", "digits", "--ipc", 2, "--out", out, *QUICK_DM)
    assert (code, "20 images" in said) == (0, True)
    facts = json.loads((tmp_path / "dm.run.json").read_text())
    assert len(facts["history"]) == 5
    assert {"seconds", "peak_memory_mb", "threads", "torch"} <= set(facts)
    code, said, _ = command("evaluate", out)
    assert code == 0
    assert "dm on digits, ipc 2" in said
    assert "protocol dsa-v1 (the card's), " in said
    code, said, _ = command("evaluate", out, "--json", "--protocol", "quick-v1", "--labels", "hard", "--networks", 3)
    assert (code, len(json.loads(said)["accuracies"])) == (0, 3)
    code, _, _ = command("render", out, "--out", tmp_path / "dm.png")
    assert (code, (tmp_path / "dm.png").read_bytes()[:4]) == (0, b"\x89PNG")
    code, said, _ = command("info", out)
    assert json.loads(said)["card"]["recipe"]["iterations"] == 5


def test_the_same_command_gives_the_same_file(command, tmp_path):
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for file in files:
        assert command("synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--out", file, *QUICK_DM)[0] == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_bench_in_processes_prints_a_board_of_the_bytes_of_one_process_and_does_nothing_twice(
    command, forked_python, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "executable", forked_python)
    monkeypatch.chdir(tmp_path)
    suite = 'title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nipc = [1, 2]\nreference = "none"\n'
    (tmp_path / "two.toml").write_text(suite + f"protocols = ['{short_protocol(tmp_path)}']\n")
    made = {}
    for name, options in {"alone": ["--executor", "in-process"], "results": ["--jobs", 2]}.items():
        monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / f"home of {name}"))
        arguments = ["bench", "two.toml", "--results", name, "--networks", 2, *options]
        code, said, progress = command(*arguments)
        assert code == 0
        sets = {
            path.name: path.read_bytes() for path in (tmp_path / f"home of {name}/store/sets").glob("*.safetensors")
        }
        made[name] = (sets, [(result.ipc, result.accuracies) for result in read_results(tmp_path / name)])
    assert made["alone"] == made["results"] and list(map(len, made["results"])) == [2, 2]
    assert "| 1 | random | hard |" in said
    assert "[2/2]" in progress
    assert {path.name for path in (tmp_path / "results/two").iterdir() if path.is_file()} == {
        "leaderboard.md",
        "leaderboard.csv",
        "accuracy.png",
    }
    code, _, progress = command(*arguments)
    assert (code, "2 cells, 2 of them done" in progress) == (0, True)
    code, said, _ = command(*arguments, "--dry-run", "--json")
    assert [cell["state"] for cell in json.loads(said)] == ["done", "done"]
    code, said, _ = command("leaderboard", "--results", "results", "--json")
    assert [row["ipc"] for row in json.loads(said)] == [1, 2]
    assert all(row["peak_memory_mb"] > 10 for row in json.loads(said))


def test_sets_that_no_suite_made_stand_on_its_board(command, quick, tmp_path, monkeypatch):
    """One that synthesize made and one that was imported, beside bench's random and the whole split."""
    from distill_bench.evaluation import PROTOCOLS

    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    short = {"epochs": 1, "minimum_steps": 1, "networks": 1, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "full-v1", PROTOCOLS["full-v1"].model_copy(update=short))
    Path("mine.toml").write_text('title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nipc = [1]\n')
    bench = ["bench", "mine.toml", "--results", "results", "--executor", "in-process"]
    assert command(*bench)[0] == 0
    assert command("synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--out", "a.safetensors", *QUICK_DM)[0] == 0
    numpy.savez("b.npz", images=numpy.zeros((10, 1, 8, 8), "uint8"), labels=numpy.arange(10))
    imported = ["--dataset", "digits", "--method", "theirs", "--space", "normalized", "--out", "b.safetensors"]
    assert command("import", "b.npz", *imported)[0] == 0
    for name in ("a", "b"):
        filed = ["evaluate", f"{name}.safetensors", "--protocol", "quick-v1", "--results", "results", "--json"]
        code, said, _ = command(*filed)
        assert (code, json.loads(said)["suite"]) == (0, "evaluated")
    origin = json.loads(said)["origin"]
    assert origin["files"].keys() == {"b.npz"}
    assert sorted(path.name for path in Path("results").glob("[!.]*")) == ["evaluated.jsonl", "mine", "mine.jsonl"]
    code, said, _ = command("leaderboard", "--results", "results")
    assert (code, said.count("# Leaderboard")) == (0, 1)
    lines = [[cell.strip() for cell in line.split("|")] for line in said.splitlines() if line.startswith("| 1 |")]
    assert {cells[2] for cells in lines} == {"random", "dm", "theirs"}
    assert all(cells[6] != "–" for cells in lines)  # the gap to full
    assert all(cells[5] != "–" for cells in lines if cells[2] != "random")
    code, said, _ = command(*bench)
    assert (code, "| theirs |" in said) == (0, True)
    rows = json.loads(command("leaderboard", "--results", "results", "--json")[1])
    assert sorted((row["suite"], row["method"]) for row in rows) == [
        ("evaluated", "dm"), ("evaluated", "theirs"), ("mine", "full"), ("mine", "random"),
    ]  # fmt: skip
    assert command(*filed)[0] == 0
    assert len(Path("results/evaluated.jsonl").read_text().splitlines()) == 2


def test_ones_own_images_go_all_the_way(command, quick, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    images_folder(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    assert command("synthesize", "random", "--dataset", "folder:pets", "--ipc", 2, "--out", "pets.safetensors")[0] == 0
    code, said, _ = command("evaluate", "pets.safetensors", "--json")
    assert (code, json.loads(said)["dataset"]) == (0, "folder:pets")
    options = ["--executor", "in-process", "--results", "results", "--only", "method=random,ipc=1"]
    code, said, _ = command("bench", "own", "--dataset", "folder:pets", *options)
    assert (code, "folder:pets" in said) == (0, True)
    code, _, error = command("bench", "own", "--dataset", "folder:pets", "--only", "ipc=10")
    assert code == 2
    assert "class 'cat' has 6 training images, fewer than the 10" in error


def test_a_set_without_test_split_asks_for_a_holdout(command, quick, tmp_path, monkeypatch):
    images_folder(tmp_path / "pets")
    monkeypatch.chdir(tmp_path / "pets")
    made = ["--dataset", "folder:train", "--ipc", 1, "--out", "set.safetensors"]
    assert command("synthesize", "random", *made)[0] == 0
    code, _, error = command("evaluate", "set.safetensors")
    assert (code, "--holdout 0.2" in error) == (2, True)
    code, _, error = command("evaluate", "set.safetensors", "--holdout", 0.34)
    assert (code, "held out of a training split that the set was made from" in error) == (2, True)
    assert command("synthesize", "random", *made, "--holdout", 0.34)[0] == 0
    code, _, error = command("evaluate", "set.safetensors")
    assert (code, "held out" in error) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (made("nope"), 2, "unknown method 'nope'"),
        (made("dm", dataset="nope"), 2, "folder:PATH"),
        (made("dm", ipc=0), 2, "--ipc 0"),
        (made("mtt", ipc=0), 2, "--ipc 0: at least one image per class is needed"),
        (made("dm", out="x.pt"), 2, "must end in .safetensors"),
        (["synthesize", "--dataset", "digits", "--ipc", 1, "--out", "x.safetensors"], 2, "name one method"),
        (made("dm", "--set", "a"), 2, "key=value"),
        (made("dm", "--device", "tpu"), 2, "cuda"),
        (made("random", "--set", "ipc=3"), 2, "random has no field ipc. Its fields: formation, pixel_space"),
        (made("random", "--set", "preset=cpu"), 2, "random has no field preset"),
        (made("random", "--set", "device=cpu"), 2, "random has no field device"),
        (made("random", "--device", "auto:1"), 2, "unknown device 'auto:1'"),
        (made("random", "--device", "cpu:4"), 2, "cpu:4 is not available"),
        (made("random", "--set", "zca_eps=-1"), 2, "zca_eps: Input should be greater than 0"),
        (made("random", "--size", 0), 2, "--size 0"),
        (made("random", "--holdout", 0), 2, "--holdout 0"),
        (made("random", "--split", "test", "--holdout", 0.2), 2, "contradict each other"),
        (["synthesize", "dm", "--dataset", "digits", "--ipc", 1], 2, "--out"),
        (["evaluate", "missing.safetensors"], 3, "no such file"),
        (["evaluate"], 2, "name the file"),
        (["evaluate", "--protocol", "full-v1"], 2, "--dataset"),
        (["bench", "nope"], 2, "unknown suite"),
        (["bench", "own"], 2, "names no dataset"),
        (["bench", "digits", "--executor", "cloud"], 2, "in-process"),
        (["evaluate", "missing.safetensors", "--device", "tpu"], 2, "unknown device 'tpu'"),
        (["evaluate", "missing.safetensors", "--networks", 0], 2, "'--networks'"),
        (["evaluate", "--protocol", "full-v1", "--dataset", "digits", "--size", 0], 2, "--size 0"),
        (["bench", "digits", "--networks", 0], 2, "'--networks'"),
        (["bench", "digits", "--device", "tpu"], 2, "unknown device 'tpu'"),
        (["bench", "digits", "--size", 0], 2, "--size 0"),
        (["bench", "digits", "--holdout", 0], 2, "--holdout 0"),
        (["bench", "digits", "--only", "ipc=99"], 2, "suite digits has ipc 1, 2, 5, 10"),
        (["bench", "digits", "--method", "dm"], 2, "has the method dm twice"),
        (["leaderboard", "--results", "nowhere"], 2, "nowhere has no results"),
        (["leaderboard", "--results", "."], 2, "has no results. Run distill-bench bench digits"),
        (["leaderboard", "--results", ".", "--json"], 2, "has no results. Run distill-bench bench digits"),
        (["list", "nope"], 2, "cannot list"),
        (["recipe", "show", "nope"], 2, "Known: ast, at-bptt, aum"),
        (["recipe", "validate", "nope.toml"], 2, "nope.toml"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(command, tmp_path, monkeypatch, arguments, code, complaint):
    monkeypatch.chdir(tmp_path)
    found, _, error = command(*arguments)
    assert found == code
    assert complaint in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_suite(command, tmp_path):
    (tmp_path / "x.toml").mkdir()
    code, _, error = command("bench", tmp_path / "x.toml")
    assert (code, "unknown suite" in error) == (2, True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("protocol = 'none-v1'\n", "unknown protocol 'none-v1'"),
        ("[preset.cpu.ipc.5]\nnetwork = 'ConvNot'\n", "unknown network 'ConvNot'"),
    ],
)
def test_a_recipe_names_networks_and_protocols_that_are_there(command, tmp_path, text, complaint):
    usual = (
        "title = 't'\nfunction = 'distill_bench.methods.mean_matching.distribution_matching:distribution_matching'\n"
    )
    values = "[defaults]\niterations = 1\nimage_lr = 1.0\n"
    table = text if text.startswith("[") else ""
    (tmp_path / "mine.toml").write_text(usual + text.removesuffix(table) + values + table)
    code, _, error = command("recipe", "validate", tmp_path / "mine.toml")
    assert (code, complaint in error) == (2, True)


def test_a_set_made_with_a_holdout_is_tested_on_it_unless_the_test_split_is_asked_for(command, quick, tmp_path):
    out, digits = tmp_path / "held.safetensors", load_dataset("digits")
    made = ["synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", out]
    assert command(*made, "--holdout", 0.3)[0] == 0
    scores = {}
    for split in ((), ("--split", "holdout"), ("--split", "test"), ("--holdout", 0.3)):
        code, said, error = command("evaluate", out, "--json", *split)
        assert (code, "note" in error) == (0, False), error
        scores[split] = json.loads(said)
        assert scores[split].pop("run")["threads"] == 1
    held, test = scores[()], scores["--split", "test"]
    assert held == scores["--split", "holdout"] == scores["--holdout", 0.3]
    assert (held["holdout"], held["test_fingerprint"]) == (0.3, digits.with_holdout(0.3).test.fingerprint)
    assert (test["holdout"], test["test_fingerprint"]) == (None, digits.test.fingerprint)
    assert test["train_fingerprint"] == digits.with_holdout(0.3).train.fingerprint
    assert "digits, 0.3 of its training split held out" in command("evaluate", out)[1]


def test_a_set_whose_source_is_gone_is_drawn_all_the_same(command, tmp_path, monkeypatch):
    images_folder(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    made = ["synthesize", "random", "--dataset", "folder:pets", "--ipc", 1]
    assert command(*made, "--out", "plain.safetensors")[0] == 0
    assert command(*made, "--out", "white.safetensors", "--set", "pixel_space=zca")[0] == 0
    (tmp_path / "pets").rename(tmp_path / "elsewhere")
    assert command("render", "plain.safetensors", "--out", "plain.png")[0] == 0
    code, _, error = command("render", "white.safetensors", "--out", "white.png")
    assert (code, f"there is no {tmp_path / 'pets'} here" in error, "--dataset folder:PATH" in error) == (3, True, True)


def test_an_interrupted_evaluation_keeps_its_networks(command, quick, tmp_path, monkeypatch):
    from distill_bench.evaluation import ScoreCache, evaluate

    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    out = tmp_path / "set.safetensors"
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", out)[0] == 0
    get_or_run = ScoreCache.get_or_run

    def run_and_interrupt(*told):
        accuracy = get_or_run(*told)
        signal.raise_signal(signal.SIGINT)
        return accuracy

    with monkeypatch.context() as patch:
        patch.setattr(ScoreCache, "get_or_run", run_and_interrupt)
        code, _, error = command("evaluate", out)
    assert (code, "1 of 2 networks tested" in error) == (130, True)
    with monkeypatch.context() as patch:
        trained = []
        train = scoring.train
        patch.setattr(scoring, "train", lambda *args, **options: trained.append(1) or train(*args, **options))
        code, said, error = command("evaluate", out, "--json")
    assert (code, len(trained), "networks tested before: 1" in error) == (0, 1, True)
    assert json.loads(said)["accuracies"] == list(evaluate(load_distilled(out)).accuracies)


@pytest.mark.parametrize("words", [made("random"), ["bench", "digits"]], ids=["synthesize", "bench"])
def test_what_code_runs_is_noted_before_the_work_begins(command, monkeypatch, words):
    def load(*_, **__):
        assert code_state.cache_info().currsize == 1
        raise DataError("far enough")

    code_state.cache_clear()
    for room in ("datasets", "benchmark.planning"):
        monkeypatch.setattr(f"distill_bench.{room}.load_dataset", load)
    assert command(*words)[0] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_data_loads_is_no_failure(command, tmp_path, monkeypatch, number):
    def interrupted(*_, **__):
        try:
            signal.raise_signal(number)
        except Exception as error:  # as readers have it, which say what they could not read
            raise DataError("unreadable") from error

    for room in ("datasets", "benchmark.planning"):
        monkeypatch.setattr(f"distill_bench.{room}.load_dataset", interrupted)
    for words in (["synthesize", "dm", "--ipc", 1, "--out", tmp_path / "x.safetensors"], ["bench", "digits"]):
        code, _, error = command(*words, "--dataset", "digits")
        assert (code, error) == (130, "error: stopped on request, before any work began.\n")


def test_lists_and_recipes(command):
    assert "dsa-v1" in command("list", "protocols")[1]
    assert list(json.loads(command("list", "--json")[1])) == ["methods", "sources", "networks", "protocols", "suites"]
    assert "VGG11          32 px or more" in command("list", "networks")[1]
    code, said, _ = command("recipe", "show", "dc", "--dataset", "cifar10", "--ipc", 10, "--set", "image_lr=0.5")
    shown = json.loads(said)["fields"]
    assert (code, shown["outer_loop"], shown["inner_loop"], shown["image_lr"]) == (0, 10, 50, 0.5)
    assert command("recipe", "validate", "dc")[0] == 0


@pytest.mark.parametrize(
    ("given", "tables", "jitter"),
    [
        (["--dataset", "mnist"], ["defaults"], 4),
        (["--dataset", "folder:mine"], ["defaults"], 4),
        (["--dataset", "folder:mine", "--size", 64], ["defaults", "side.64"], 4),
        (["--dataset", "imagenette"], ["defaults", "side.128"], 32),
        (["--dataset", "imagenette", "--size", 64], ["defaults", "side.64"], 4),
        (
            ["--dataset", "mnist", "--ipc", 20, "--preset", "cpu"],
            ["defaults", "preset.cpu", "preset.cpu.ipc.10", "preset.cpu.dataset.mnist"],
            0,
        ),
    ],
)
def test_recipe_show_says_which_tables_the_values_are_from(command, given, tables, jitter):
    code, said, _ = command("recipe", "show", "sre2l", *given)
    shown = json.loads(said)
    assert (code, shown["tables"], shown["fields"]["jitter"]) == (0, tables, jitter)


def test_a_terminated_synthesis_leaves_a_checkpoint_and_goes_on(command, forked_python, tmp_path, monkeypatch):
    arguments = ["synthesize", "dm", "--dataset", "digits", "--ipc", "1", "--set", "real_batch=8"]
    arguments += ["--set", "iterations=150", "--set", "network=ConvNetD1W4", "--out", "set.safetensors"]
    arguments += ["--checkpoint-seconds", "0"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    process = subprocess.Popen([forked_python, "-m", "distill_bench", *arguments], stderr=subprocess.PIPE)
    until(lambda: list((tmp_path / "home/store/checkpoints").glob("*.safetensors")), process)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error.decode()
    assert b"Run the same command again" in error
    assert len(list((tmp_path / "home/store/checkpoints").glob("*.safetensors"))) == 1
    assert command(*arguments)[0] == 0
    assert load_distilled(tmp_path / "set.safetensors").images.shape == (10, 1, 8, 8)
    assert list((tmp_path / "home/store/checkpoints").iterdir()) == []


def test_an_interrupted_bench_leaves_nothing_running(tmp_path):
    """SIGINT goes to the whole process group, as a terminal sends it."""
    home = tmp_path / "home"
    environment = os.environ | {"DISTILL_BENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    arguments = ["bench", "digits", "--only", "method=dc,ipc=10", "--jobs", "2", "--results", str(tmp_path / "results")]
    process = subprocess.Popen(
        [sys.executable, "-m", "distill_bench", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until(lambda: len(processes_of(home)) >= 3, process)  # the command and two workers
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error.decode()
    assert b"Run the same command again" in error and b"failed" not in error
    assert processes_of(home) == []
    assert list((tmp_path / "results").rglob("*.json*")) == []


def processes_of(home: Path) -> list[int]:
    """Processes with this cache, by Linux's own account."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"DISTILL_BENCH_HOME={home}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_teachers_are_trained_once_listed_and_tested(command, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    assert command("teachers", "list") == (0, "", "")
    arguments = ["teachers", "train", "--dataset", "digits", "--network", "ConvNetD1W4", "--epochs", 3]
    arguments += ["--set", "learning_rate=0.05"]
    code, said, _ = command(*arguments)
    assert code == 0
    assert said.startswith("digits: ConvNetD1W4, 3 epochs, seed 0, normalized pixels: training images ")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*.safetensors")}
    assert command(*arguments)[:2] == (0, said)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*.safetensors")}
    assert command("teachers", "list")[1] == said
    (listed,) = json.loads(command("teachers", "list", "--json")[1])
    assert (listed["dataset"], listed["recipe"]["learning_rate"]) == ("digits", 0.05)
    assert f"test {listed['test_accuracy']:.1f} %" in said
    assert command("teachers", "train", "--dataset", "digits", "--pixel-space", "x")[0] == 2
    assert "Its fields: network" in command("teachers", "train", "--dataset", "digits", "--set", "x=1")[2]


# experts

QUICK_EXPERTS = ["--set", "network=ConvNetD1W4", "--set", "expert.batch_size=256", "--set", "segment=[0, 1, 1]"]


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))


def test_experts_are_trained_listed_and_shown(command, own_home):
    trained = command("experts", "train", "mtt", "--dataset", "digits", "--count", 2, "--epochs", 2, *QUICK_EXPERTS)
    assert trained[0] == 0
    assert trained[1].startswith("digits: 2 × ConvNetD1W4, plain, epochs 2, normalized pixels, training images ")
    assert command("experts", "list")[1] == trained[1]
    listed = json.loads(command("experts", "list", "--json")[1])
    assert [expert["index"] for expert in sorted(listed, key=lambda expert: expert["index"])] == [0, 1]
    code, shown, _ = command("experts", "show", listed[0]["key"][:8])
    assert code == 0 and len(json.loads(shown)["facts"]["losses"]) == 2
    flat = command("experts", "train", "ftd", "--dataset", "digits", "--count", 1, "--epochs", 2, *QUICK_EXPERTS)
    assert "1 × ConvNetD1W4, flat, epochs 2" in flat[1]


def test_experts_of_an_earlier_version_are_listed_as_such(command, own_home, monkeypatch):
    train = ("experts", "train", "ftd", "--dataset", "digits", "--count", 1, "--epochs", 2, *QUICK_EXPERTS)
    with monkeypatch.context() as earlier:
        earlier.setattr("distill_bench.pretrained.experts.FLAT_VERSION", 1)
        assert command(*train)[0] == 0
    assert command(*train)[0] == 0
    lines = command("experts", "list")[1].splitlines()
    assert sorted("of an earlier version" in line for line in lines) == [False, True]
    listed = json.loads(command("experts", "list", "--json")[1])
    assert {expert["version"]: expert["outdated"] for expert in listed} == {1: True, 2: False}


def test_experts_are_trained_on_what_a_holdout_leaves(command, own_home):
    count = ("--count", 1, "--epochs", 2, "--quiet")
    for held_out in ((), ("--split", "test"), ("--holdout", 0.2), ("--split", "holdout")):
        assert command("experts", "train", "mtt", "--dataset", "digits", *count, *QUICK_EXPERTS, *held_out)[0] == 0
    listed = json.loads(command("experts", "list", "--json")[1])
    assert len({expert["train"] for expert in listed}) == len(listed) == 2
    again = command("experts", "train", "mtt", "--dataset", "digits", *count, *QUICK_EXPERTS, "--set", "experts_from=")
    assert again[0] == 0 and len(json.loads(command("experts", "list", "--json")[1])) == 2


def test_experts_of_others_are_imported_and_used(command, own_home, tmp_path):
    import torch

    from distill_bench.networks import build_network
    from distill_bench.runtime.seeds import generator

    networks = [build_network("ConvNetD1W4", (1, 8, 8), 10, generator(index)) for index in range(3)]
    torch.save([[[p.detach() for p in network.parameters()] for network in networks]], tmp_path / "replay_buffer_0.pt")
    given = ("--dataset", "digits", "--network", "ConvNetD1W4")
    code, out, _ = command("experts", "import", tmp_path / "replay_buffer_0.pt", *given, "--space", "normalized")
    assert code == 0 and "1 × ConvNetD1W4, imported" in out
    name = out.split("experts_from=")[1].strip()
    made = tmp_path / "made.safetensors"
    mtt = [
        "synthesize",
        "mtt",
        "--dataset",
        "digits",
        "--ipc",
        1,
        "--set",
        "network=ConvNetD1W4",
        "--set",
        "iterations=2",
    ]
    mtt += ["--set", f"experts_from={name}", "--set", "segment_epochs=1", "--set", "student_steps=2", "--out", made]
    assert command(*mtt, "--set", "segment=[0, 2, 2]")[0] == 0
    assert load_distilled(made).card.recipe["experts_from"] == name
    code, _, error = command(*mtt, "--set", "segment=[0, 3, 3]")
    assert code == 2 and "the imported experts have 2 epochs" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "dm", "--dataset", "digits"], "dm takes no experts"),
        (["train", "mtt", "--dataset", "digits", "--epochs", 2], "experts have 2"),
        (["show", "nothing"], "0 experts have a key that begins with 'nothing'"),
        (["train", "mtt", "--dataset", "digits", "--ipc", 0], "--ipc 0: at least one image per class is needed"),
        (["train", "mtt", "--dataset", "digits", "--ipc", -5], "--ipc -5: at least one image per class is needed"),
        (
            ["train", "mtt", "--dataset", "digits", "--count", 1, "--epochs", 1, "--set", "experts_from=abc"],
            "experts_from=abc: imported experts need no training. To train the recipe's own, leave the setting out",
        ),
        (["import", "x.pt", "--dataset", "digits", "--space", "other"], "--space 'other'"),
        (["import", "x.pt", "--dataset", "digits", "--space", "zca", "--zca-eps", -1], "--zca-eps -1: give a positive"),
        (["import", "x.pt", "--dataset", "digits", "--space", "zca", "--zca-eps", 0], "--zca-eps 0: give a positive"),
        (["import", "x.pt", "--dataset", "digits", "--space", "zca", "--zca-eps", "nan"], "--zca-eps nan: give a"),
        (["import", "x.pt", "--dataset", "digits", "--space", "zca", "--zca-eps", "inf"], "--zca-eps inf: give a"),
    ],
)
def test_what_is_wrong_with_a_request_for_experts_is_said(command, own_home, arguments, message):
    code, _, error = command("experts", *arguments)
    assert code == 2 and message in error


def test_a_released_set_is_not_whitened_with_nothing(command, tmp_path):
    arguments = ["x.pt", "--dataset", "digits", "--space", "zca", "--zca-eps", -1, "--out", tmp_path / "x.safetensors"]
    code, _, error = command("import", *arguments)
    assert code == 2 and "--zca-eps -1: give a positive number" in error
