"""The table of docs/studies/recovery.md: pairs of one seed, and the line that has the same teacher."""

import pandas
import recovery_study
from result_files import score


def result(method, seed, accuracy, **fields):
    return score(method, 1, seed, [accuracy], suite="recovery", **fields)


RESULTS = [
    *[result("random-soft", seed, 70.0 + seed) for seed in range(3)],
    *[result("sre2l", seed, 60.0 + 2 * seed) for seed in range(4)],  # seed 3 has no partner
    *[result("sre2l real start", seed, 66.0 + seed) for seed in range(3)],
    result("random-soft weak teacher", 0, 50.0),
    result("sre2l weak teacher", 0, 55.0),
    result("sre2l weak teacher", 0, 10.0, strict=True),
]
TABLE = pandas.json_normalize([{"data": each.data} | each.model_dump(mode="json") for each in RESULTS])


def test_a_row_is_compared_with_its_own_teachers_line_and_with_sre2l():
    shown = recovery_study.tables(TABLE)
    half = 4.3027 / 3**0.5
    assert f"| sre2l | 63.0 ± 4.1 | **−9.0 ± {half:.1f}** | – |" in shown
    assert f"| sre2l real start | 67.0 ± {half:.1f} | −4.0 | **+5.0 ± {half:.1f}** |" in shown
    assert "| sre2l weak teacher | 55.0 | +5.0 | – |" in shown, "as stored, and beside the line with that teacher"
    assert f"| random-soft | 71.0 ± {half:.1f} | – | – |" in shown and "Seeds: 1 to 4" in shown


def test_the_figure_has_a_point_a_variant_of_sre2l():
    figure = recovery_study.draw(TABLE)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][::-1] == [
        "sre2l", "sre2l real start", "sre2l weak teacher",
    ]  # fmt: skip
