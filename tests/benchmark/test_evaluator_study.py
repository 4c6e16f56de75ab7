"""The analysis of docs/studies/evaluator.md: how much of a spread is of the method, and with what it changes."""

import evaluator_study
import numpy
import pandas
import pytest
from result_files import score

IMAGES, LABELS = ("random", "dm", "mtt"), evaluator_study.LABELS
COLUMNS = ("matched-v1", "matched-muon-v1", "matched-v1+MLP")
EFFECTS = {
    "method": (0, 1, 0, 0), "method × labels": (0, 1, 1, 0), "method × evaluator": (0, 1, 0, 1),
    "method × both": (0, 1, 1, 1), "draw": (1, 1, 0, 0), "rest": (1, 1, 1, 1),
}  # fmt: skip
"""Of every component the axes (seed, images, labels, evaluator) along which it varies."""


def made(value, seeds=(0, 1)):
    """Results whose accuracy is ``value(image, label, column, seed)``."""
    results = [
        score(f"{image} {label}", 10, seed, [value(i, j, k, seed)], suite="evaluator", protocol=column)
        for seed in seeds
        for i, image in enumerate(IMAGES)
        for j, label in enumerate(LABELS)
        for k, column in enumerate(COLUMNS)
    ]
    return pandas.json_normalize([{"data": each.data} | each.model_dump(mode="json") for each in results])


def drawn(deviations, shape=(4, 10, 3, 7), seed=0, centred=False):
    """Accuracies with normal effects of these standard deviations, and what labels and evaluators add to all sets.

    Centred ones are 0 in the mean over each of their axes but the sets: no other component has a part of them.
    """
    draws = numpy.random.default_rng(seed)
    total = 50 + 9 * draws.normal(size=(1, 1, *shape[2:])) + 2 * draws.normal(size=(shape[0], 1, *shape[2:]))
    for name, deviation in deviations.items():
        size = tuple(length if varies else 1 for length, varies in zip(shape, EFFECTS[name], strict=True))
        effect = deviation * draws.normal(size=size)
        for axis in [place for place in (0, 2, 3) if centred and EFFECTS[name][place]]:
            effect = effect - effect.mean(axis=axis, keepdims=True)
        total = total + effect
    return total


def test_components_are_on_average_those_the_numbers_were_made_of():
    deviations = {"method": 3.0, "method × labels": 2.0, "method × evaluator": 1.5, "method × both": 1.0,
                  "draw": 1.2, "rest": 0.8}  # fmt: skip
    found = [evaluator_study.components(drawn(deviations, seed=seed)) for seed in range(300)]
    for name, deviation in deviations.items():
        mean = numpy.mean([each[name] for each in found])
        assert mean == pytest.approx(deviation**2, rel=0.12), name


@pytest.mark.parametrize("name", [name for name in EFFECTS if name != "rest"])
def test_one_effect_alone_is_found_as_such(name):
    found = evaluator_study.shares(drawn({name: 2.0, "rest": 0.01}, centred=True))
    assert found[name].value > 95  # of all three, what is 0 in the mean by chance is made up for elsewhere
    assert sum(share.value for share in found.values()) == pytest.approx(100)


def test_noise_alone_is_no_methods():
    found = [evaluator_study.components(drawn({"rest": 1.0}, seed=seed)) for seed in range(50)]
    assert numpy.mean([each["rest"] for each in found]) == pytest.approx(1, rel=0.05)
    assert all(numpy.mean([each[name] for each in found]) < 0.05 for name in EFFECTS if name != "rest")


def test_a_cell_is_compared_with_random_images_of_the_same_labels_evaluator_and_seed():
    shown = evaluator_study.tables(made(lambda i, j, k, seed: 50 + 10 * j + k + 7 * seed + i * (j + 1)))
    assert "| dm | +1.0 | +1.0 | +1.0 |" in shown, "with classes"
    assert "| mtt | +6.0 | +6.0 | +6.0 |" in shown, "with a teacher's labels"
    assert "| hard labels | sgd | muon | MLP |" in shown and "Seeds with all cells: 2 of 2" in shown


def test_orders_are_compared_within_and_across_labels_and_seeds():
    """The second kind of labels turns the order round, and the second seed too."""
    shown = evaluator_study.tables(made(lambda i, j, k, seed: 50.0 + i * (-1) ** ((j == 1) + seed)))
    assert "| same labels, another optimiser or network | 1.00 |" in shown
    assert "| other labels, same optimiser and network | −0.33 |" in shown
    assert "other draws (two seeds) | −1.00 |" in shown


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (lambda results: results.iloc[:-1], "Seeds with all cells: 1 of 2"),
        (lambda results: results.iloc[:1], "Seeds with all cells: 1 of 1"),
        (lambda results: results[results["method"] != "random soft"], "Seeds with all cells: 0 of 2"),
        (lambda results: results[~results["method"].str.startswith("random")], "| mtt | – | – | – |"),
        (lambda results: results[results["method"].str.startswith("random")], "| random, accuracy | 50.0 | 50.0 |"),
    ],
)
def test_a_part_of_the_suite_has_its_tables_and_figure_too(left, said):
    results = left(made(lambda i, j, k, seed: 50.0 + i))
    shown = evaluator_study.tables(results)
    assert said in shown and "nan" not in shown
    evaluator_study.draw(results)


def test_one_kind_of_labels_has_a_panel():
    results = made(lambda i, j, k, seed: 50.0 + i)
    results = results[results["method"].str.endswith("hard")]
    assert "| other labels, same optimiser and network | – |" in evaluator_study.tables(results)
    assert [axes.get_title() for axes in evaluator_study.draw(results).axes] == ["hard labels"]


def test_the_figure_has_a_panel_a_kind_of_labels():
    figure = evaluator_study.draw(made(lambda i, j, k, seed: 50 + i + seed * k))
    assert [axes.get_title() for axes in figure.axes[:3]] == ["hard labels", "soft labels", "teacher labels"]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["+1.0"] * 3 + ["+2.0"] * 3
