"""How much of the spread between methods is the method's: figure and tables of docs/studies/evaluator.md.

    python scripts/evaluator_study.py results --out docs/studies

Reads the results of the suite evaluator. A seed fixes images, teacher and initial networks; ± is half of the 95 %
Student-t interval over the seeds.
"""

from itertools import combinations, product
from statistics import fmean

import numpy
import pandas
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from study_tables import heat, table, with_half_width, write_study

from distill_bench.evaluation.rank_statistics import spearman

LINE, LABELS = "random", ("hard", "soft", "teacher")
Accuracies = Float[numpy.ndarray, "images labels evaluators"]


def accuracies(results: pandas.DataFrame) -> pandas.DataFrame:
    """A row a seed, image set and kind of labels, a column an evaluator: percent, of the labels as stored."""
    results = results[~results["strict"].astype(bool)].copy()
    results[["images", "labels"]] = results["method"].str.rsplit(" ", n=1, expand=True)
    return results.pivot_table("accuracy", ["seed", "images", "labels"], "protocol", sort=False)


def by_seed(found: pandas.DataFrame) -> dict[int, Accuracies]:
    """Of every seed that has all cells one array; axes in the table's order."""
    images, labels = list(dict.fromkeys(found.index.get_level_values("images"))), _labels(found)
    whole = pandas.MultiIndex.from_product([images, labels])
    parts = {seed: part.droplevel("seed").reindex(whole) for seed, part in found.groupby("seed")}
    shape = (len(images), len(labels), -1)
    return {seed: part.to_numpy().reshape(shape) for seed, part in parts.items() if not part.isna().any(axis=None)}


def shares(accuracies: Accuracies) -> dict[str, float]:
    """What the spread between images, each less the mean of its labels and evaluator, is made of, in percent.

    The sums of squares of a balanced analysis of variance without repetition: of images alone, of images with labels,
    of images with the evaluator, and the rest.
    """
    total = accuracies - accuracies.mean(axis=0)
    own = total.mean(axis=(1, 2), keepdims=True)
    with_labels = total.mean(axis=2, keepdims=True) - own
    with_evaluator = total.mean(axis=1, keepdims=True) - own
    parts = {
        "images": own, "images × labels": with_labels, "images × evaluator": with_evaluator,
        "rest": total - own - with_labels - with_evaluator,
    }  # fmt: skip
    squares = {name: float((part**2).sum() * total.size / part.size) for name, part in parts.items()}
    return {name: 100 * value / sum(squares.values()) for name, value in squares.items()}


def agreement(accuracies: Accuracies) -> Float[numpy.ndarray, "columns columns"]:
    """Spearman's correlation of the orders that two columns (labels, evaluator) give the images."""
    columns = accuracies.reshape(len(accuracies), -1).T
    return numpy.array([[spearman(first, second)[0] for second in columns] for first in columns])


def less_line(found: pandas.DataFrame) -> pandas.DataFrame:
    """Every cell less random images with the same labels, evaluator and seed."""
    lines = found.xs(LINE, level="images")
    return found - lines.reindex(found.index.droplevel("images")).to_numpy()


def _column(name: str) -> str:
    """What tells one evaluator from the others."""
    _, _, network = name.partition("+")
    return network or name.removeprefix("matched-").removesuffix("v1").strip("-") or "sgd"


def _shares_table(whole: dict[int, Accuracies]) -> str:
    each = [shares(array) for array in whole.values()]
    rows = [[name, with_half_width([one[name] for one in each])] for name in each[0]]
    return table(["spread between the ten sets", "share (%)"], rows)


def _labels(found: pandas.DataFrame) -> list[str]:
    return [label for label in LABELS if label in found.index.get_level_values("labels")]


def _agreement_table(whole: dict[int, Accuracies], labels: list[str], columns: list[str]) -> str:
    """The mean correlation with every other column of the same kind, and across kinds."""
    kinds = list(product(labels, columns))
    matrices = [agreement(array) for array in whole.values()]

    def mean_of(pairs: list[tuple[int, int]]) -> list[float]:
        return [fmean(float(matrix[pair]) for pair in pairs) for matrix in matrices] if pairs else []

    def having(same_labels: bool, same_evaluator: bool) -> list[tuple[int, int]]:
        return [
            (i, j)
            for i, j in combinations(range(len(kinds)), 2)
            if (kinds[i][0] == kinds[j][0]) == same_labels and (kinds[i][1] == kinds[j][1]) == same_evaluator
        ]

    seeds = [spearman(a.mean(axis=(1, 2)), b.mean(axis=(1, 2)))[0] for a, b in combinations(whole.values(), 2)]
    rows = [
        ["same labels, another optimiser or network", with_half_width(mean_of(having(True, False)), ".2f")],
        ["other labels, same optimiser and network", with_half_width(mean_of(having(False, True)), ".2f")],
        ["both others", with_half_width(mean_of(having(False, False)), ".2f")],
        ["the same images' mean, another seed", f"{fmean(seeds):.2f}" if seeds else "–"],
    ]
    return table(["two orders of the ten sets", "Spearman's correlation, mean"], rows)


def _cell(part: pandas.DataFrame, column: str, images: str, form: str = ".1f") -> str:
    """Mean and half-width over the seeds that have the cell."""
    return with_half_width(part[column].xs(images, level="images").dropna(), form)


def tables(results: pandas.DataFrame) -> str:
    """Shares of the spread, agreement of orders, and every cell less random images."""
    found = accuracies(results)
    whole, moved = by_seed(found), less_line(found)
    columns = list(found.columns)
    parts = [f"Seeds: {len(whole)}\n", _shares_table(whole), _agreement_table(whole, _labels(found), columns)]
    for label in _labels(found):
        lines, own = (part.xs(label, level="labels") for part in (found, moved))
        names = [name for name in dict.fromkeys(own.index.get_level_values("images")) if name != LINE]
        rows = [[f"{LINE}, accuracy", *(_cell(lines, column, LINE) for column in columns)]]
        rows += [[name, *(_cell(own, column, name, "+.1f") for column in columns)] for name in names]
        parts.append(table([f"{label} labels", *map(_column, columns)], rows))
    return "\n".join(parts)


def draw(results: pandas.DataFrame) -> Figure:
    """A panel a kind of labels: image sets by evaluators, in points above random images under the same."""
    moved = less_line(accuracies(results))
    columns, labels = list(moved.columns), _labels(moved)
    means = moved.groupby(["images", "labels"], sort=False).mean()
    names = [name for name in dict.fromkeys(moved.index.get_level_values("images")) if name != LINE]
    figure = Figure(figsize=(13, 0.6 + 0.36 * len(names)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    bound = float(numpy.nanquantile(means.abs().to_numpy(), 0.95))
    for axes, label in zip(figure.subplots(1, len(labels), sharey=True, squeeze=False)[0], labels, strict=True):
        own = moved.xs(label, level="labels")
        grid = [[list(own[each].xs(name, level="images").dropna()) for each in columns] for name in names]
        heat(axes, grid, [bound] * len(columns))
        axes.set_title(f"{label} labels", fontsize=10)
        axes.set_xticks(range(len(columns)), map(_column, columns), rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names)
    figure.suptitle("points above random images", fontsize=10)
    return figure


if __name__ == "__main__":
    write_study("evaluator", __doc__, tables, draw)
