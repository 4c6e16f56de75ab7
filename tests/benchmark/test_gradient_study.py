"""The tables of docs/studies/gradient.md, and the rates that its suite takes from the search on the held-out fifth."""

from pathlib import Path

import gradient_study
import pandas
import pytest
from gradient_study import Setting, over_settings
from result_files import score
from study_tables import cells_of

from distill_bench.benchmark import expand, load_suite, read_results
from distill_bench.evaluation import Synthesis

RESULTS = Path(__file__).parents[2] / "results"


def frame(results):
    return pandas.json_normalize([{"data": each.data} | each.model_dump(mode="json") for each in results])


def result(method, seed, accuracy, seconds=3.0, **fields):
    return score(method, 1, seed, [accuracy], suite="gradient", synthesis=Synthesis(seconds=seconds), **fields)


TABLE = frame(
    [
        *[result("exact of 10 steps of 0.05", seed, 80.0 + seed, seconds=6.0 if seed else 60.0) for seed in range(3)],
        *[result("tesla of 10 steps of 0.05", seed, 78.0 + 2 * seed) for seed in range(3)],
        result("tesla of 10 steps of 0.05", 3, 10.0),  # without a partner
        *[result("tesla of 10 steps of 0.05 teacher labels", seed, 79.0 + seed) for seed in range(3)],
        result("tesla of 10 steps of 0.05", 0, 50.0, strict=True),
        result("exact of 10 steps of 0.05", 0, 55.0, strict=True),
    ]
)


def test_differences_are_of_pairs_and_none_is_with_another_setting():
    half = 4.3027 / 3**0.5
    shown = gradient_study.tables(TABLE)
    assert f"| 10 steps of 0.05 | 81.0 ± {half:.1f} | " in shown and f" | −1.0 ± {half:.1f} |" not in shown
    assert f" | +1.0 ± {half:.1f} |" in shown and "Seeds: 3 to 4" in shown
    assert f"| 10 steps of 0.05, teacher labels | – | 80.0 ± {half:.1f} | – |" in shown
    assert "| 10 steps of 0.05 | 55.0 | 50.0 | +5.0 |" in shown, "with classes, in a table of its own"
    assert "mean of settings" not in shown, "there is one"
    assert "| 10 steps of 0.05, IPC 1 | 6.0 | 3.0 | 2.00 |" in shown, "the cell that trained the experts counts little"


def test_the_mean_over_settings_is_of_the_seeds_that_all_have_and_of_plain_ones():
    more = [result(f"{name} of 20 steps of 0.05", seed, value + seed * (name == "exact"))
            for name, value in (("exact", 90.0), ("tesla", 88.0)) for seed in (0, 1, 7)]  # fmt: skip
    cells = cells_of(pandas.concat([TABLE, frame(more)]))
    assert over_settings(cells, 1) == [(2 + 2) / 2, (1 + 3) / 2]  # of seeds 0 and 1
    assert over_settings(cells, 10) == []
    of = {"suite": "gradient", "synthesis": Synthesis(seconds=3.0)}
    ten = frame([score(f"{name} of 20 steps of 0.05", 10, 0, [value], **of)
                 for name, value in (("exact", 97.0), ("tesla", 96.5))])  # fmt: skip
    assert over_settings(cells_of(pandas.concat([TABLE, ten])), 10) == [0.5], "of the settings that this IPC has"


def test_the_figure_has_a_point_a_setting():
    labels = gradient_study.draw(TABLE).axes[0].get_yticklabels()
    assert [text.get_text() for text in labels][::-1] == ["10 steps of 0.05", "10 steps of 0.05, teacher labels"]


def test_a_name_that_is_no_setting_is_an_error():
    with pytest.raises(ValueError, match="'mtt' is no setting"):
        Setting.of("mtt")


@pytest.mark.parametrize(
    ("suite", "search"),
    [
        ("gradient", "gradient-rates"),
        ("gradient-cifar10", "gradient-rates-images"),
        ("gradient-fashion_mnist", "gradient-rates-images"),
    ],
)
def test_rates_are_those_of_the_search_on_the_held_out_fifth(suite, search):
    """And neither the least nor the largest that was tried."""
    best: dict[tuple[str, int, Setting], dict[float, float]] = {}
    for filed in read_results(RESULTS, search):
        if not filed.strict:
            assert filed.holdout == 0.2
            name, rate = filed.method.rsplit(" rate ", 1)
            best.setdefault((filed.dataset, filed.ipc, Setting.of(name)), {})[float(rate)] = filed.accuracy
    for cell in expand(load_suite(suite), {}):
        tried = best[cell.dataset, cell.ipc, Setting.of(cell.method)]
        assert cell.settings["image_lr"] == max(tried, key=lambda rate: (tried[rate], -rate)), str(cell)
        assert len(tried) >= 3 and min(tried) < cell.settings["image_lr"] < max(tried)
