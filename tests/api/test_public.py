"""Public functions take names and paths, show progress where a person looks, and notebooks draw what they return."""

import ast
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import distill_bench
from distill_bench import UsageError
from distill_bench.evaluation import PROTOCOLS
from distill_bench.runtime.progress import SILENT, StreamMonitor
from distill_bench.runtime.shown import NotebookMonitor, monitor_of


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "network": "ConvNetD1W4", "networks": 2})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    return tmp_path


def test_names_and_paths_go_all_the_way(place):
    made = distill_bench.synthesize("digits", "random", ipc=1)
    made.save("x.safetensors")
    result = distill_bench.evaluate("x.safetensors", "digits", "quick-v1")
    assert result == distill_bench.evaluate(made, protocol="quick-v1").model_copy(update={"run": result.run})
    assert distill_bench.render("x.safetensors", "x.png") == Path("x.png").read_bytes() == distill_bench.render(made)
    with pytest.raises(UsageError, match="replaced"):
        distill_bench.render("x.safetensors", "x.safetensors")
    assert distill_bench.export("x.safetensors", "res", "x.pt") == [Path("x.pt")]
    (back,) = distill_bench.import_sets("x.pt", "digits", "normalized", method="random", force=True).sets
    assert back.images.equal(made.images)
    Path("r.json").write_text(result.model_dump_json())
    assert distill_bench.publish("x.safetensors", "there")[1] == "there" and Path("there/README.md").exists()
    with pytest.raises(UsageError, match="where to"):
        distill_bench.publish("x.safetensors")


def test_the_reference_takes_names_too(place, monkeypatch):
    brief = PROTOCOLS["full-v1"].model_copy(update={"epochs": 1, "minimum_steps": 0, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "full-v1", brief)
    found = distill_bench.evaluate_full("digits", networks=1)
    assert found.method == "full" and "1 network)" in repr(found)


def test_what_is_shown_has_no_bytes_and_no_functions_in_it(place):
    distill_bench.synthesize("digits", "random", ipc=1).save("x.safetensors")
    release, _ = distill_bench.publish("x.safetensors", "there")
    data = distill_bench.load_dataset("digits")
    assert len(repr(release)) < 500 and "function" not in repr(data) and "digits" in repr(data)


def test_a_suite_ends_in_a_board(place):
    how = {"datasets": ["digits"], "protocols": ["quick-v1"], "executor": "in-process"}
    board = distill_bench.bench("own", "method=random,ipc=1", **how)
    assert len(board.rows) == len(board.to_pandas()) == 1 and "random" in repr(board)
    assert "<table>" in board._repr_html_() and "random" in board._repr_html_()
    assert distill_bench.leaderboard().rows[0]["method"] == "random"
    board.save_html("b.html")
    with pytest.raises(UsageError, match=r"must end in \.html"):
        board.save_html("b.txt")
    with pytest.raises(UsageError, match="has no results"):
        distill_bench.leaderboard("nowhere")


def test_notebooks_draw_sets_and_results_in_which_names_do_nothing(place, digits):
    made = distill_bench.synthesize(digits, "random", ipc=1)
    made.card = made.card.model_copy(update={"method": "<b>x</b>"})
    shown = made._repr_html_()
    assert shown.startswith('<img alt="') and "data:image/png;base64," in shown and "<b>" not in shown
    assert repr(made) == (
        "<DistilledSet <b>x</b> on digits, ipc 1: 10 images of 1×8×8, normalized pixels, hard labels, 2,640 bytes>"
    )
    whitened = distill_bench.synthesize(digits, "random", ipc=1, pixel_space="zca")
    assert "<img" not in whitened._repr_html_() and "Whitened" in whitened._repr_html_()
    result = distill_bench.evaluate(made, digits, "quick-v1")
    assert str(result) == repr(result) and f"{result.accuracy:.2f}" in repr(result)
    assert "<b>" not in result._repr_html_() and "quick-v1" in result._repr_html_()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_where_a_person_looks(monkeypatch):
    assert monitor_of() is SILENT  # in tests
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert monitor_of() is SILENT  # a pipe
    assert isinstance(monitor_of(True), StreamMonitor)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(monitor_of(), StreamMonitor) and monitor_of(False) is SILENT
    assert monitor_of(False, monitor := StreamMonitor()) is monitor
    monkeypatch.setenv("DISTILL_BENCH_PROGRESS", "no")
    assert monitor_of() is SILENT
    monkeypatch.setenv("DISTILL_BENCH_PROGRESS", "maybe")
    with pytest.raises(UsageError, match="give yes or no"):
        monitor_of()


def test_a_notebook_has_a_bar_that_needs_no_widgets(monkeypatch):
    drawn = []
    handle = SimpleNamespace(update=drawn.append)
    shell = SimpleNamespace(kernel=None)
    display = SimpleNamespace(HTML=str, display=lambda what, display_id: drawn.append(what) or handle)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monitor = monitor_of()
    assert isinstance(monitor, NotebookMonitor) and isinstance(monitor, StreamMonitor)  # as bench needs
    with monitor.stage("dm <b>", 4, 1) as stage:
        stage.note("loss 1")
        stage.advance(3)
    assert 'value="1"' in drawn[0] and 'max="4" value="4"' in drawn[-1] and "4/4" in drawn[-1] and "loss 1" in drawn[-1]
    assert all("<b>" not in each for each in drawn)


def test_what_is_offered_is_there_and_typed():
    assert [*dict.fromkeys(distill_bench.__all__)] == distill_bench.__all__ == sorted(distill_bench.__all__)
    assert {*distill_bench.__all__} == {*distill_bench._HOME_OF} <= {*dir(distill_bench)}
    tree = ast.parse(Path(distill_bench.__file__).read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {alias.name: each.module for each in typed.body for alias in each.names}  # what type checkers read
    assert homes == {name: f"distill_bench.{home}" for name, home in distill_bench._HOME_OF.items()}
    for name in distill_bench.__all__:
        assert getattr(distill_bench, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing"):
        distill_bench.nothing  # noqa: B018


def test_a_name_of_data_has_the_holdout_of_the_card_in_every_function(place):
    held_out = distill_bench.load_dataset("digits", holdout=0.2)
    made = distill_bench.synthesize(held_out, "random", ipc=1)
    found = distill_bench.evaluate(made, "digits", "quick-v1", networks=1)
    assert found.holdout == 0.2
    assert found.accuracy == distill_bench.evaluate(made, held_out, "quick-v1", networks=1).accuracy


def test_one_may_stand_where_several_may_and_text_where_a_path(place):
    how = {"datasets": "digits", "methods": "herding", "protocols": "quick-v1", "ipc": 1, "seeds": 0, "networks": 1}
    board = distill_bench.bench("own", "method=random,method=herding", results="r", executor="in-process", **how)
    assert sorted(row["method"] for row in board.rows) == ["herding", "random"]
    again = distill_bench.leaderboard("r", beside=["there"] if Path("there").mkdir() else "there")
    assert len(again.rows) == 2
    (found,) = distill_bench.compare("random", "herding", results="r", dataset=distill_bench.load_dataset("digits"))
    assert found["dataset"] == "digits"
    made = distill_bench.synthesize("digits", "random", ipc=1, device=torch.device("cpu"))
    distill_bench.evaluate(made, protocol="quick-v1", networks=1, cache="scores")
    assert list(Path("scores").iterdir())


def test_numpys_numbers_are_numbers(place):
    made = distill_bench.synthesize("digits", "random", np.int64(2), seed=np.int64(3))
    assert made.to_bytes() == distill_bench.synthesize("digits", "random", 2, seed=3).to_bytes()
    made = distill_bench.synthesize("digits", "random", fraction=np.float64(0.1))
    assert made.to_bytes() == distill_bench.synthesize("digits", "random", fraction=0.1).to_bytes()
    how = {"methods": [], "protocols": "quick-v1", "ipc": np.int64(1), "networks": 1, "executor": "in-process"}
    assert len(distill_bench.bench("own", "method=random", datasets="digits", results="n", **how).rows) == 1


@pytest.mark.parametrize("given", [-1, 1.0, True, "1", None])
def test_a_seed_that_is_none_is_refused_before_work(place, given):
    losses = []
    with pytest.raises(UsageError, match="give a whole number"):
        distill_bench.synthesize("digits", "dm", 1, "test", seed=given, history=losses)
    assert not losses


@pytest.mark.parametrize("given", [{"ipc": "1"}, {"ipc": 1.0}, {"ipc": True}, {"fraction": "0.1"}, {"fraction": True}])
def test_a_budget_of_another_type_is_refused(place, given):
    with pytest.raises(UsageError, match=r"give a (whole number|fraction)"):
        distill_bench.synthesize("digits", "random", **given)


@pytest.mark.parametrize("columns", [0, -1])
def test_a_picture_without_columns_is_refused(place, columns):
    made = distill_bench.synthesize("digits", "random", ipc=1)
    with pytest.raises(UsageError, match="1 or more"):
        distill_bench.render(made, columns=columns)


@pytest.mark.parametrize("device", ["cuda:01", "cpu:00", "cpu:1"])
def test_a_device_that_torch_cannot_name_is_refused(place, device):
    with pytest.raises(UsageError, match="device"):
        distill_bench.synthesize("digits", "random", 1, device=device)
