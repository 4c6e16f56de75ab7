"""compare: two sets, or two methods on the boards of a folder."""

import json

import pytest
from result_files import failure, score, write

from distill_bench import synthesize
from distill_bench.evaluation import PROTOCOLS
from distill_bench.evaluation.compare import compare

RESULTS = [
    score("dm", seed=0, accuracies=[70.0, 74.0]), score("dm", seed=1, accuracies=[76.0, 80.0]),
    score("random", seed=0, accuracies=[60.0, 62.0]), score("random", seed=1, accuracies=[66.0, 69.0]),
    score("dm", 10, accuracies=[90.0, 92.0]), score("random", 10, accuracies=[90.5, 91.5]),
    score("datm", labels="soft", accuracies=[80.0, 80.5]),
    score("datm", accuracies=[81.0, 81.5], strict=True), failure("mtt"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "results", RESULTS)


def test_two_methods_are_compared_under_every_condition_that_both_have(command, folder):
    code, said, _ = command("compare", "dm", "random", "--results", folder)
    assert code == 0
    assert said.splitlines() == [
        "dm is better than random by 10.8 ± 3.2 (75.0 ± 38.1 against 64.2 ± 41.3 %)",
        "digits, IPC 1, quick-v1, ConvNetD2W64; paired over the synthesis seeds 0, 1",
        "not resolved: dm − random is +0.0 ± 6.9 (91.0 ± 12.7 against 91.0 ± 6.4 %)",
        "digits, IPC 10, quick-v1, ConvNetD2W64; Welch's interval over the networks of synthesis seed 0: of their "
        "evaluation's randomness only",
    ]
    code, said, _ = command("compare", "random", "dm", "--results", folder, "--ipc", 1, "--dataset", "digits", "--json")
    (found,) = json.loads(said)
    expected = compare({"0": [60.0, 62.0], "1": [66.0, 69.0]}, {"0": [70.0, 74.0], "1": [76.0, 80.0]})
    assert {key: found[key] for key in type(expected).model_fields} == expected.model_dump(mode="json")
    assert (found["resolved"], found["verdict"]) == (True, "dm is better than random by 10.8 ± 3.2")
    assert found["a"]["accuracies"] == {"0": [60.0, 62.0], "1": [66.0, 69.0]}
    assert (found["ipc"], found["protocol"], found["dataset"]) == (1, "quick-v1", "digits")


def test_rows_of_one_method_are_told_apart(command, folder):
    _, said, _ = command("compare", "dm", "datm", "--results", folder)
    assert [line.split(" (7")[0] for line in said.splitlines()[::2]] == [
        "not resolved: dm (hard) − datm (hard, strict) is −9.2 ± 23.8",
        "not resolved: dm (hard) − datm (soft) is −8.2 ± 23.8",
    ]


def test_strict_scores_are_compared_with_strict_ones(command, tmp_path):
    rated = [score(name, accuracies=[first, 80.0], strict=strict) for name, strict, first in
             (("mtt", False, 70.0), ("mtt", True, 71.0), ("ftd", False, 72.0), ("ftd", True, 73.0))]  # fmt: skip
    _, said, _ = command("compare", "mtt", "ftd", "--results", write(tmp_path / "rated", rated))
    assert [line.split(" is ")[0] for line in said.splitlines()[::2]] == [
        "not resolved: mtt (strict) − ftd (strict)", "not resolved: mtt − ftd",
    ]  # fmt: skip


def test_another_suites_row_counts_where_no_suite_has_both(command, tmp_path):
    other = {"suite": "other", "accuracies": [50.0, 51.0]}
    folder = write(tmp_path / "results", [score("dm"), score("dsa", **other), score("dm", **other | {"seed": 3})])
    code, said, _ = command("compare", "dm", "dsa", "--results", folder)
    assert (code, said.splitlines()[0].split(" (5")[0]) == (0, "not resolved: dm (other) − dsa (other) is +0.0 ± 3.0")
    folder = write(tmp_path / "apart", [score("dm"), score("dsa", **other | {"accuracies": [50.0, 51.5]})])
    _, said, _ = command("compare", "dm", "dsa", "--results", folder)
    assert said.startswith("dm (digits) is better than dsa (other) by 38.2 ± ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dm", "dm"], "dm is named twice"),
        (["dm", "dms"], "unknown method 'dms'. Did you mean dm"),
        (["dm", "mtt"], "unknown method 'mtt'"),  # its only cell failed
        (["dm", "random", "--dataset", "mnist"], "unknown dataset 'mnist'. Known: digits."),
        (["dm", "random", "--ipc", 7], "unknown ipc '7'. Known: 1, 10."),
        (["dm", "random", "--protocol", "quick"], "unknown protocol 'quick'. Did you mean quick-v1?"),
        (["dm", "datm", "--ipc", 10], "no results of dm and datm under the same conditions with --ipc 10."),
        (["dm", "set.safetensors"], "set.safetensors is a set, and dm neither a file nor a published one"),
        (["dc-cifar10-ipc1", "dm"], "dc-cifar10-ipc1 is a set, and dm neither"),
        (["dm", "random", "--networks", 3], "--networks would not be used: methods are looked up"),
        (["dm", "random", "--labels", "hard", "--allow-leak"], "--labels and --allow-leak would not be used"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(command, folder, words, said):
    code, out, error = command("compare", *words, "--results", folder)
    assert (code, out, len(error.splitlines())) == (2, "", 1)
    assert said in error


def test_a_folder_without_results_is_said_to_have_none(command, tmp_path):
    code, _, error = command("compare", "dm", "random", "--results", tmp_path / "nowhere")
    assert (code, "nowhere has no results. Run distill-bench bench" in error) == (2, True)


# --- sets


@pytest.fixture
def sets(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 2, "networks": 2, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    for name, seed, ipc in (("a", 0, 1), ("b", 1, 1), ("c", 0, 2)):
        synthesize(digits, "random", ipc, seed=seed).save(f"{name}.safetensors")
    return tmp_path


def test_two_sets_are_evaluated_and_compared(command, sets, monkeypatch):
    words = ["--protocol", "quick-v1", "--networks", 3]
    code, said, error = command("compare", "a.safetensors", "b.safetensors", *words, "--json")
    assert code == 0, error
    (found,) = json.loads(said)
    one, other = (
        json.loads(command("evaluate", f"{name}.safetensors", *words, "--json")[1])["accuracies"] for name in "ab"
    )
    assert (found["a"]["accuracies"], found["b"]["accuracies"]) == ({"0": one}, {"1": other})
    assert found["difference"] == compare({"0": one}, {"1": other}).difference
    assert (found["basis"], found["ipc"]) == ("networks", 1)
    assert any("a.safetensors: evaluated under quick-v1" in note for note in found["notes"])
    monkeypatch.setattr("distill_bench.training.train.train", lambda *_, **__: pytest.fail("trained once more"))
    code, said, _ = command("compare", "a.safetensors", "b.safetensors", *words)
    assert (code, said.splitlines()[1].split(";")[0]) == (0, "digits, IPC 1, quick-v1, ConvNetD1W4")
    assert found["verdict"] in said


def test_sets_of_different_sizes_are_compared_without_an_ipc(command, sets):
    code, said, _ = command("compare", "a.safetensors", "c.safetensors", "--protocol", "quick-v1", "--json")
    assert (code, json.loads(said)[0]["ipc"]) == (0, None)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--ipc", 1], 2, "--ipc would not be used: sets are evaluated, not looked up"),
        (["--labels", "soft"], 2, "--labels 'soft': give stored or hard"),
        (["--protocol", "quick"], 2, "unknown protocol 'quick'"),
        (["--registry", "nowhere.toml"], 3, "nowhere.toml"),
    ],
)
def test_what_does_not_go_with_sets_is_refused(command, sets, words, code, said):
    got, out, error = command("compare", "a.safetensors", "b.safetensors", *words)
    assert (got, out, len(error.splitlines())) == (code, "", 1)
    assert said in error


def test_sets_whose_cards_name_two_protocols_need_one(command, sets, digits):
    made = synthesize(digits, "random", 1, seed=5)
    made.card = made.card.model_copy(update={"protocol": "mtt-v1"})
    made.save("d.safetensors")
    code, _, error = command("compare", "a.safetensors", "d.safetensors")
    assert (code, "(a.safetensors dsa-v1 and d.safetensors mtt-v1): name one for both, --protocol" in error) == (
        2,
        True,
    )


def test_sets_of_two_test_splits_are_not_compared(command, sets, digits):
    synthesize(digits.with_holdout(0.3), "random", 1).save("h.safetensors")
    code, _, error = command("compare", "a.safetensors", "h.safetensors", "--protocol", "quick-v1")
    assert (code, "on different images" in error) == (2, True)
