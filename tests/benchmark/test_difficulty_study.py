"""The tables of docs/studies/difficulty.md: pairs of one seed at one budget."""

import difficulty_study
import pandas
from result_files import score

ACCURACIES = {"random": 50.0, "early hard": 70.0, "late hard": 60.0, "late learned": 65.0, "all hard": 66.0}
RESULTS = [
    *[
        score(method, ipc, seed, [accuracy + seed * (method == "late hard") - ipc], suite="difficulty")
        for method, accuracy in ACCURACIES.items()
        for ipc in (1, 10)
        for seed in range(3)
    ],
    score("early hard", 1, 3, [0.0], suite="difficulty"),  # without a partner
    score("late learned", 1, 0, [1.0], suite="difficulty", strict=True),
]
TABLE = pandas.json_normalize([{"data": each.data} | each.model_dump(mode="json") for each in RESULTS])
HALF = 4.3027 / 3**0.5


def test_differences_are_of_pairs_at_one_budget():
    shown = difficulty_study.tables(TABLE)
    late = f"**−9.0 ± {HALF:.1f}**"
    assert f"| late less early, hard labels | {late} | {late} |" in shown
    assert f"| learned less hard labels, late | **+4.0 ± {HALF:.1f}** | **+4.0 ± {HALF:.1f}** |" in shown
    assert "| random | 49.0 | 40.0 |" in shown and "| growing hard | – | – |" in shown


def test_the_figure_has_what_was_run_above_random_images():
    hard, learned = difficulty_study.draw(TABLE).axes
    assert [text.get_text() for text in hard.texts] == ["+20.0", "+20.0", "+11.0", "+11.0", "+16.0", "+16.0"]
    assert [text.get_text() for text in learned.texts] == ["+15.0", "+15.0"]
    bold = {text.get_text() for text in hard.texts if text.get_fontweight() == "bold"}
    assert bold == {"+11.0"}  # of late segments; what all seeds agree on has no interval
