"""How much of the spread between methods is the method's: figure and tables of docs/studies/evaluator.md.

    python scripts/evaluator_study.py results --out docs/studies

Reads the results of the suites evaluator and evaluator-DATASET. A seed fixes the images that a method makes and the
teacher, of released images the teacher alone; the initial networks of an evaluator are the same for all sets. ± is half
of a 95 % Student-t interval: over the seeds, but for the parts of the spread, where it is over the methods (jackknife).
"""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from statistics import fmean

import numpy
import pandas
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from study_tables import by_dataset, heat, largest, table, with_half_width, write_study

from distill_bench.evaluation.rank_statistics import spearman
from distill_bench.evaluation.statistics import Estimate

LINE, LABELS = "random", ("hard", "soft", "teacher")
BELOW = ("rded", "sre2l")
"""Below random images under every label and evaluator: how much of all is theirs, the tables without them say."""
Accuracies = Float[numpy.ndarray, "seeds images labels evaluators"]


def accuracies(results: pandas.DataFrame) -> pandas.DataFrame:
    """A row a seed, image set and kind of labels, a column an evaluator: percent, of the labels as stored."""
    results = results[~results["strict"].astype(bool)].copy()
    results[["images", "labels"]] = results["method"].str.rsplit(" ", n=1, expand=True)
    return results.pivot_table("accuracy", ["seed", "images", "labels"], "protocol", sort=False)


def whole_seeds(found: pandas.DataFrame) -> Accuracies:
    """The seeds that have all cells; axes in the table's order."""
    cells = list(product(_images(found), _labels(found)))
    parts = [part.droplevel("seed").reindex(pandas.MultiIndex.from_tuples(cells)) for _, part in found.groupby("seed")]
    shape = (len(_images(found)), len(_labels(found)), len(found.columns))
    whole = [part.to_numpy().reshape(shape) for part in parts if not part.isna().any(axis=None)]
    return numpy.stack(whole) if whole else numpy.empty((0, *shape))


def components(accuracies: Accuracies) -> dict[str, float]:
    """Of what the spread between sets under one evaluator and one kind of labels consists: variances, points squared.

    A balanced layout with random effects, each cell less the mean over the sets of its seed, labels and evaluator: mean
    squares solved for their expectations, and set to 0 where that is below.

    Args:
        accuracies: of two seeds, sets, kinds of labels and evaluators at least.

    Returns:
        ``method``: what a method has under all of them; ``method × labels``, ``method × evaluator``, ``method × both``:
        what it has under these alone; ``draw``: what a seed's images have under all; ``rest``: what is left, with the
        networks' noise.
    """
    seeds, images, labels, evaluators = accuracies.shape
    centred = accuracies - accuracies.mean(axis=1, keepdims=True)
    cell = centred.mean(axis=0, keepdims=True)
    own = cell.mean(axis=(2, 3), keepdims=True)
    with_labels = cell.mean(axis=3, keepdims=True) - own
    with_evaluator = cell.mean(axis=2, keepdims=True) - own
    drawn = centred.mean(axis=(2, 3), keepdims=True) - own

    def mean_square(part: numpy.ndarray, *freedom: int) -> float:
        return float((part**2).sum()) * accuracies.size / part.size / ((images - 1) * math.prod(freedom))

    rest = mean_square(centred - cell - drawn, seeds - 1, labels * evaluators - 1)
    draw = mean_square(drawn, seeds - 1)
    both = mean_square(cell - own - with_labels - with_evaluator, labels - 1, evaluators - 1)
    by_labels, by_evaluator = mean_square(with_labels, labels - 1), mean_square(with_evaluator, evaluators - 1)
    solved = {
        "method": (mean_square(own) - by_labels - by_evaluator + both - draw + rest) / (seeds * labels * evaluators),
        "method × labels": (by_labels - both) / (seeds * evaluators),
        "method × evaluator": (by_evaluator - both) / (seeds * labels),
        "method × both": (both - rest) / seeds,
        "draw": (draw - rest) / (labels * evaluators),
        "rest": rest,
    }
    return {name: max(value, 0.0) for name, value in solved.items()}


def shares(accuracies: Accuracies) -> dict[str, Estimate]:
    """Each of the ``components`` in percent of their sum, with its error over which methods there are (jackknife)."""
    count = accuracies.shape[1]
    whole = _percent(components(accuracies))
    parts = [_percent(components(numpy.delete(accuracies, place, axis=1))) for place in range(count)]
    found = {}
    for name, value in whole.items():
        left_out = [part[name] for part in parts]
        mean = fmean(left_out)
        error = math.sqrt((count - 1) / count * sum((each - mean) ** 2 for each in left_out))
        found[name] = Estimate(value, error, count - 1)
    return found


def _percent(parts: dict[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {name: 100 * value / total if total else math.nan for name, value in parts.items()}


def less_line(found: pandas.DataFrame) -> pandas.DataFrame:
    """Every cell less random images with the same labels, evaluator and seed."""
    lines = found[found.index.get_level_values("images") == LINE].droplevel("images")
    return found - lines.reindex(found.index.droplevel("images")).to_numpy()


def _images(found: pandas.DataFrame) -> list[str]:
    return list(dict.fromkeys(found.index.get_level_values("images")))


def _labels(found: pandas.DataFrame) -> list[str]:
    return [label for label in LABELS if label in found.index.get_level_values("labels")]


def _column(name: str) -> str:
    """What tells one evaluator from the others: a network where it is named, an optimiser but SGD beside one."""
    protocol, _, network = name.partition("+")
    optimizer = protocol.removeprefix("matched-").removesuffix("v1").strip("-")
    return " ".join(filter(None, (optimizer, network))) or "sgd"


def _shares_table(wholes: dict[str, Accuracies]) -> str:
    """Of each group of sets that has enough of them, the parts of their spread."""
    found = {name: shares(whole) for name, whole in wholes.items() if min(whole.shape) >= 2 and whole.shape[1] >= 3}
    if not found:
        return "Parts of the spread need whole cells of two seeds, kinds of labels and evaluators, and of three sets.\n"
    parts = list(next(iter(found.values())))
    rows = [[part, *(_with_half(each[part]) for each in found.values())] for part in parts]
    return table(["spread between the sets, variance", *(f"share (%), {name}" for name in found)], rows)


def _with_half(share: Estimate) -> str:
    low, high = share.interval()
    return f"{share.value:.0f}" + ("" if low is None or high is None else f" ± {(high - low) / 2:.0f}")


def _mean_correlation(pairs: Iterable[tuple[Sequence[float], Sequence[float]]]) -> list[float]:
    """The mean of Spearman's correlations, alone in a list; none where no pair has one."""
    found = [
        correlation for correlation, _ in (spearman(list(a), list(b)) for a, b in pairs) if correlation is not None
    ]
    return [fmean(found)] if found else []


def _agreement_table(wholes: dict[str, Accuracies], labels: list[str], columns: list[str]) -> str:
    """How alike the orders are that two columns (labels, evaluator) give each group of sets: of one seed, or of two."""
    kinds = list(product(labels, columns))
    found = [_agreements(whole, kinds) for whole in wholes.values()]
    rows = [[name, *(each[name] for each in found)] for name in found[0]]
    return table(["two orders of the sets", *(f"Spearman's correlation, mean, {name}" for name in wholes)], rows)


def _agreements(whole: Accuracies, kinds: list[tuple[str, str]]) -> dict[str, str]:
    flat = whole.reshape(len(whole), whole.shape[1], len(kinds))

    def within(same_labels: bool, same_evaluator: bool) -> list[float]:
        pairs = [
            (i, j)
            for i, j in combinations(range(len(kinds)), 2)
            if (kinds[i][0] == kinds[j][0], kinds[i][1] == kinds[j][1]) == (same_labels, same_evaluator)
        ]
        return [each for seed in flat for each in _mean_correlation((seed[:, i], seed[:, j]) for i, j in pairs)]

    across = _mean_correlation(
        (first[:, i], second[:, i]) for first, second in combinations(flat, 2) for i in range(len(kinds))
    )
    return {
        "same labels, another optimiser or network": with_half_width(within(True, False), ".2f"),
        "other labels, same optimiser and network": with_half_width(within(False, True), ".2f"),
        "both others": with_half_width(within(False, False), ".2f"),
        "same labels, optimiser and network, other draws (two seeds)": with_half_width(across, ".2f"),
    }


def _cell(part: pandas.DataFrame, column: str, images: str, form: str = ".1f") -> str:
    """Mean and half-width over the seeds that have the cell."""
    return with_half_width(part[column].xs(images, level="images").dropna(), form)


def tables(results: pandas.DataFrame) -> str:
    """Parts of the spread, agreement of orders, and every cell less random images."""
    found = accuracies(results)
    moved = less_line(found)
    groups = {"all": found}
    if set(BELOW) & {*_images(found)}:
        others = ~found.index.get_level_values("images").isin(BELOW)
        groups[f"without {' and '.join(BELOW)}"] = found[others]
    wholes = {name: whole_seeds(part) for name, part in groups.items() if len(_images(part))}
    columns = list(found.columns)
    seeds = f"Seeds with all cells: {len(wholes['all'])} of {found.index.get_level_values('seed').nunique()}\n"
    parts = [seeds, _shares_table(wholes), _agreement_table(wholes, _labels(found), columns)]
    for label in _labels(found):
        lines, own = (part.xs(label, level="labels") for part in (found, moved))
        rows = [
            [name, *(_cell(own, column, name, "+.1f") for column in columns)] for name in _images(own) if name != LINE
        ]
        if LINE in _images(lines):
            rows.insert(0, [f"{LINE}, accuracy", *(_cell(lines, column, LINE) for column in columns)])
        parts.append(table([f"{label} labels", *map(_column, columns)], rows))
    return "\n".join(parts)


def draw(results: pandas.DataFrame) -> Figure:
    """A row a dataset, a panel a kind of labels: image sets by evaluators, in points above random images."""
    parts = [(dataset, less_line(accuracies(part))) for dataset, part in by_dataset(results)]
    heights = [0.6 + 0.36 * (len(_images(moved)) - 1) for _, moved in parts]
    figure = Figure(figsize=(13, sum(heights)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, (dataset, moved) in zip(rows, parts, strict=True):
        _draw_row(row, moved)
        row.suptitle(f"{dataset}: points above random images", fontsize=10)
    return figure


def _draw_row(row: SubFigure, moved: pandas.DataFrame) -> None:
    columns, labels = list(moved.columns), _labels(moved)
    names = [name for name in _images(moved) if name != LINE]
    grids = [
        [
            [list(moved[each].xs((name, label), level=("images", "labels")).dropna()) for each in columns]
            for name in names
        ]
        for label in labels
    ]
    bound = largest(cell for grid in grids for row in grid for cell in row)
    panels = row.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for axes, label, grid in zip(panels, labels, grids, strict=True):
        heat(axes, grid, [bound] * len(columns))
        axes.set_title(f"{label} labels", fontsize=10)
        axes.set_xticks(range(len(columns)), map(_column, columns), rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names)


if __name__ == "__main__":
    write_study("evaluator", __doc__, tables, draw)
