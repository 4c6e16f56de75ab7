"""The analysis of docs/studies/evaluator.md: how much of a spread is of the images, and with what it changes."""

import evaluator_study
import numpy
import pandas
import pytest
from result_files import score

IMAGES, LABELS, COLUMNS = (
    ("random", "dm", "mtt"),
    evaluator_study.LABELS,
    ("matched-v1", "matched-muon-v1", "matched-v1+MLP"),
)


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


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (lambda i, j, k: i, "images"),
        (lambda i, j, k: i * (j - 1), "images × labels"),
        (lambda i, j, k: i * (k - 1), "images × evaluator"),
        (lambda i, j, k: i * (j - 1) * (k - 1), "rest"),
    ],
)
def test_the_spread_is_told_apart_whatever_labels_and_evaluators_add(value, part):
    array = numpy.fromfunction(lambda i, j, k: value(i, j, k) + 5 * j + 3 * k + j * k, (3, 3, 3))
    found = evaluator_study.shares(array)
    assert found[part] == pytest.approx(100) and sum(found.values()) == pytest.approx(100)


def test_shares_are_those_of_an_analysis_of_variance():
    """Against the sums of squares of nested least-squares fits with dummy variables."""
    array = numpy.random.default_rng(0).normal(size=(4, 3, 5))
    i, j, k = (axis.ravel() for axis in numpy.indices(array.shape))

    def residual(*factors):
        columns = [numpy.ones(array.size)]
        for factor in factors:
            codes = numpy.ravel_multi_index(
                [(i, j, k)[axis] for axis in factor], [array.shape[axis] for axis in factor]
            )
            columns += [codes == code for code in range(codes.max() + 1)]
        design = numpy.stack(columns, axis=1).astype(float)
        fitted = design @ numpy.linalg.lstsq(design, array.ravel(), rcond=None)[0]
        return float(((array.ravel() - fitted) ** 2).sum())

    nested = [residual((1, 2)), residual((1, 2), (0,)), residual((1, 2), (0, 1)), residual((1, 2), (0, 1), (0, 2))]
    wanted = [100 * (a - b) / nested[0] for a, b in zip(nested, [*nested[1:], 0.0], strict=True)]
    assert list(evaluator_study.shares(array).values()) == pytest.approx(wanted)


def test_a_cell_is_compared_with_random_images_of_the_same_labels_evaluator_and_seed():
    shown = evaluator_study.tables(made(lambda i, j, k, seed: 50 + 10 * j + k + 7 * seed + i * (j + 1)))
    assert "| dm | **+1.0 ± 0.0** | **+1.0 ± 0.0** | **+1.0 ± 0.0** |" in shown, "with classes"
    assert "| mtt | **+6.0 ± 0.0** | **+6.0 ± 0.0** | **+6.0 ± 0.0** |" in shown, "with a teacher's labels"
    assert "| hard labels | sgd | muon | MLP |" in shown and "Seeds: 2" in shown


def test_orders_are_compared_within_and_across_labels():
    """The second kind of labels turns the order round."""
    shown = evaluator_study.tables(made(lambda i, j, k, seed: 50.0 + i * (-1 if j == 1 else 1)))
    assert "| same labels, another optimiser or network | 1.00 ± 0.00 |" in shown
    assert "| other labels, same optimiser and network | −0.33 ± 0.00 |" in shown
    assert "| the same images' mean, another seed | 1.00 |" in shown


def test_a_seed_that_lacks_cells_is_left_out_of_the_shares():
    results = made(lambda i, j, k, seed: 50 + i)
    assert "Seeds: 1" in evaluator_study.tables(results.iloc[:-1])


def test_the_figure_has_a_panel_a_kind_of_labels():
    figure = evaluator_study.draw(made(lambda i, j, k, seed: 50 + i + seed * k))
    assert [axes.get_title() for axes in figure.axes[:3]] == ["hard labels", "soft labels", "teacher labels"]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["+1.0"] * 3 + ["+2.0"] * 3


def test_a_part_of_the_suite_has_its_tables_and_figure_too():
    results = made(lambda i, j, k, seed: 50.0 + i)
    results = results[results["method"].str.endswith("hard")]
    shown = evaluator_study.tables(results)
    assert "| mtt | **+2.0 ± 0.0** |" in shown and "soft" not in shown
    assert "| other labels, same optimiser and network | – |" in shown
    assert [axes.get_title() for axes in evaluator_study.draw(results).axes] == ["hard labels"]
