"""The tables of docs/studies/pruning.md: paired differences and their intervals, from results made up for it."""

import pandas
import pruning_study
from result_files import score


def result(method, fraction, seed, accuracy):
    return score(method, None, seed, [accuracy], dataset="made", fraction=fraction, suite="pruning")


RESULTS = [
    *[result("random", 0.1, seed, 50.0 + seed) for seed in range(3)],
    *[result("el2n", 0.1, seed, 40.0 + 2 * seed) for seed in range(4)],  # seed 3 has no partner
    result("random-kd-0.5", 0.1, 0, 60.0),
    result("random-kd-1.0", 0.1, 0, 58.0),
    score("random-kd-1.0", None, 0, [50.0], dataset="made", fraction=0.1, suite="pruning", strict=True),
    result("el2n-easy-kd-1.0", 0.5, 0, 70.0),
    score("full", None, 0, [90.0], dataset="made", suite="pruning"),
]
TABLE = pandas.json_normalize([{"data": each.data} | each.model_dump(mode="json") for each in RESULTS])
CELLS = pruning_study.accuracies(TABLE)


def test_cells_are_selections_and_shares_of_the_teacher():
    assert CELLS["made", 0.1, "random", 0.0] == {0: 50.0, 1: 51.0, 2: 52.0}
    assert CELLS["made", 0.1, "random", 0.5] == {0: 60.0}
    assert CELLS["made", 0.1, "random", 1.0] == {0: 58.0}, "the score with the labels, not without"
    assert CELLS["made", 0.5, "el2n-easy", 1.0] == {0: 70.0}
    assert "full" not in {cell[2] for cell in CELLS}


def test_a_difference_is_over_the_seeds_that_both_have():
    """−10, −9 and −8; t with two degrees of freedom."""
    found = pruning_study.difference(CELLS["made", 0.1, "el2n", 0.0], CELLS["made", 0.1, "random", 0.0])
    assert found == [-10.0, -9.0, -8.0]
    assert pruning_study.with_half_width(found, "+.1f") == f"**−9.0 ± {4.3027 / 3**0.5:.1f}**"
    assert pruning_study.with_half_width([-1.0, 1.0], "+.1f") == f"+0.0 ± {12.706 / 1:.1f}"


def test_tables_have_every_cell_and_a_dash_for_those_that_did_not_run():
    shown = pruning_study.tables(TABLE)
    assert "| EL2N, hardest | 43.0 ± 4.1 | – | – | – | – | – |" in shown
    assert f"| EL2N, hardest | **−9.0 ± {4.3027 / 3**0.5:.1f}** | – | – | – | – | – |" in shown
    assert "| made, 10 % | +10.0 | −2.0 | 0.5 |" in shown and "seeds: 1 to 4" in shown
    assert "| made, 50 % | – | – | – |" in shown, "no best share of those that did not run"


def test_the_figure_has_a_panel_a_dataset_and_share_and_a_line_a_selection_that_ran():
    figure = pruning_study.draw(CELLS, {"made": 90.0}, ["made"])
    assert [len(axes.containers) for axes in figure.axes] == [6, 6, 6]
    assert [text.get_text() for text in figure.axes[0].texts] == ["whole split"]
