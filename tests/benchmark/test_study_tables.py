"""A study reads its own grid out of a folder that has other suites' results beside it."""

from result_files import full, score
from study_tables import of_suite, with_half_width

from distill_bench import load_results
from distill_bench.benchmark.results import as_lines


def test_a_study_has_its_own_grid_alone_whatever_lies_beside_it(tmp_path):
    """Budgets that are fractions lie beside numbers of images, under other suites and under this one's name."""
    variant = "exact of 5 steps of 0.05"
    own = [score(variant, seed=seed, suite="gradient") for seed in (0, 4)]
    foreign = [
        score(variant, suite="other"),
        score(variant, seed=5, suite="gradient"),
        score(variant, 50, suite="gradient"),
        score("mtt", suite="gradient"),
        score(variant, protocol="standard-v1", suite="gradient"),
        score(variant, dataset="mnist", suite="gradient"),
        score(variant, holdout=0.2, suite="gradient"),
        score(variant, None, fraction=0.1, images=145, suite="gradient"),
        full(suite="gradient"),
    ]
    (tmp_path / "gradient.jsonl").write_text(as_lines([*own, *foreign]))
    found = of_suite(load_results(tmp_path), "gradient")
    assert (found["method"].tolist(), found["seed"].tolist()) == ([variant] * 2, [0, 4])


def test_equal_values_are_no_interval_and_leave_nothing_out():
    assert with_half_width([0.25, 0.25], "+.2f") == "+0.25" and with_half_width([3.0]) == "3.0"
    assert with_half_width([1.0, 1.001], "+.1f").startswith("**+1.0 ± ")


def test_fractions_of_a_suite_are_its_own(tmp_path):
    kept = [score("random", None, fraction=each, images=90, suite="pruning", dataset="cifar10") for each in (0.02, 0.3)]
    kept = [each.model_copy(update={"protocol": "prune-small-v1"}) for each in kept]
    (tmp_path / "pruning.jsonl").write_text(as_lines(kept))
    assert of_suite(load_results(tmp_path), "pruning")["fraction"].tolist() == [0.02]
