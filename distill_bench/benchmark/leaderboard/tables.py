"""Leaderboard rows as CSV, Markdown and the text of a page: one protocol, network and pixel space per table."""

from collections import Counter
from collections.abc import Iterable, Sequence
from csv import DictWriter
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from typing import TYPE_CHECKING

from distill_bench.benchmark.leaderboard.claimed import OTHER, claims_table
from distill_bench.benchmark.leaderboard.claims import Claim, claim_beside, differences
from distill_bench.benchmark.leaderboard.collect import (
    BUDGET,
    ROW_KEYS,
    Row,
    as_shown,
    budget_of,
    size_order,
)
from distill_bench.benchmark.leaderboard.ranking import places
from distill_bench.evaluation.claim import Claimed
from distill_bench.evaluation.compare import Difference, compare, with_half_width
from distill_bench.evaluation.result import FULL, LINES
from distill_bench.evaluation.statistics import half_width
from distill_bench.runtime.text import for_csv, for_markdown

if TYPE_CHECKING:
    import pandas

_ABSENT = "–"
OWN_LINES = {
    "nrr-dd": "random-recorded",
    "nrr-dd-distances": "random-distances",
    "infer": "random-ensemble",
    "hello-lite0": "random-projector-lite0",
}
"""For methods whose labels are of a kind of their own the random images that have the same."""
RANDOM = (
    "random",
    "random-soft",
    "random-top2",
    "random-projector",
    "random-targets",
    "random-zca",
    *OWN_LINES.values(),
)
COLUMNS = (
    "budget", "method", "labels", "accuracy (%)", "vs random", "gap to full", "size", "synthesis", "peak memory",
    "published (%)",
)  # fmt: skip
NEEDS = "needs"
"""The column after the size, in tables where labels of some set need external weights, which are not in its size."""
_AFTER = COLUMNS.index("size") + 1
_ACCURACY = COLUMNS.index("accuracy (%)")
TABLE_KEYS = ("suite", "dataset", "protocol", "network", "pixel_space")
_POINTS = (
    "A budget is a number of images per class or, with %, a part of the training split. The columns vs random and gap "
    "to full are in percentage points. Random is scored at the same budget, in the same pixel space and with the same "
    "kind of labels; full is "
)
_ALONE = "Where there is no ±, an interval cannot be had, as with a single network, or values that do not differ."
_BEST = (
    "{} is the highest accuracy of a budget and those after it, down to the first that is resolved from it: whose "
    "difference, paired by synthesis seed where two or more are common to both, is beyond chance at 5 %, with Holm's "
    "correction for all rows that are compared. Few seeds resolve little."
)
CLAIM_COLUMNS = (
    "dataset", "budget", "method", "protocol", "pixels", "measured (%)", "claimed (%)", "difference", "standard errors",
    "verdict", "what must be known",
)  # fmt: skip
CLAIMS = (
    "Papers' figures that were measured under their own protocol, network, labels, pixels and recipe, over all sets of "
    "a release. A claim holds where the difference is within half of its 95 % interval, which is behind ±; std is the "
    "paper's, over its networks."
)
_NOTES = (
    "Published figures are the papers', each under the protocol in brackets and not under this table's: read them as "
    "context, not as a comparison.",
    "A strict row is of a set with labels or a learning rate of its own, scored with classes and the protocol's rate.",
    "Synthesis is a set's own time and, behind +, what the networks took that it needs besides, such as a teacher or "
    "experts. Where nothing stands behind it, they took none, or it was not recorded: their time is then in that of "
    "the set that was made first.",
)


def csv(rows: Iterable[Row]) -> str:
    """The rows as CSV text with a header; an absent value is an empty field, and no name is a spreadsheet's formula."""
    text = StringIO()
    columns = [key for key in ROW_KEYS if key not in ("accuracies", "registered")]
    writer = DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: for_csv(row[key]) for key in columns} for row in rows)
    return text.getvalue()


def compared(rows: Iterable[Row]) -> list[Row]:
    """Rows with what stands beside them: ``random`` and ``full``, accuracies in percent, and the differences.

    Random is one of the same conditions: the table's (protocol, network, pixel space), the budget and the kind of
    labels; ``random-soft`` is ``random`` with a teacher's, ``random-projector`` with a projector's,
    ``random-targets`` with an encoder's features, ``random-zca`` in whitened pixels, and ``OWN_LINES`` names those
    beside which no other stands. The suite's own goes first, then that of the same ``origin`` (where rows of several
    folders stand together), then that of the same preset: presets may differ in how many networks were trained. Full is
    that of the same suite, dataset and network, preferably of the same origin, under the same protocol and in the same
    pixel space.

    Args:
        rows: all rows of a board.

    Returns:
        The rows in their order, each with ``random``, ``full``, ``vs_random`` (over random) and ``gap`` (of full over
        it), the latter as ``compare`` gives them; all are None for what was not scored, or has nothing beside it.
    """
    import pandas  # here, because importing it takes a moment

    listed = [{"guest": False, **row} for row in rows]
    plain = [{**row, "row": i, "line": _line_of(row)} for i, row in enumerate(listed)]
    frame = pandas.DataFrame(plain, columns=[*ROW_KEYS, "guest", "origin", "row", "line"], dtype=object)
    scored = frame[frame["accuracy"].notna()]
    is_random, is_full = scored["method"].isin(RANDOM), scored["method"] == "full"

    def first(sets: "pandas.DataFrame", peers: "pandas.DataFrame", keys: list[str], alike: list[str]) -> dict[int, int]:
        pairs = sets.merge(peers, on=keys, suffixes=("", "_peer"))
        unlike = {f"{key}_unlike": pairs[key] != pairs[f"{key}_peer"] for key in alike}
        pairs = pairs.assign(**unlike).sort_values(["row", "guest_peer", *unlike, "method_peer", "row_peer"])
        return pairs.drop_duplicates("row").set_index("row")["row_peer"].to_dict()

    random = first(
        scored[~is_random], scored[is_random], [*TABLE_KEYS, *BUDGET, "labels", "line"], ["origin", "preset"]
    )
    full = first(scored, scored[is_full], ["suite", "dataset", "network"], ["origin", "protocol", "pixel_space"])
    peers = [(random.get(index), full.get(index)) for index in range(len(listed))]
    return [
        {**row, **_beside(row, *(None if peer is None else listed[peer] for peer in pair))}
        for row, pair in zip(listed, peers, strict=True)
    ]


def _line_of(row: Row) -> str:
    """The random images that alone have labels such as a row's; empty where ``labels`` says all of them."""
    method = row["method"] or ""
    if row["labels"] == "hard":
        return ""
    if method == "random-top2" or method in OWN_LINES.values():
        return method
    return next((line for own, line in OWN_LINES.items() if method == own or method.startswith(f"{own} ")), "")


def _beside(row: Row, random: Row | None, full: Row | None) -> Row:
    return {
        "random": random and random["accuracy"],
        "full": full and full["accuracy"],
        "vs_random": random and compare(row["accuracies"], random["accuracies"]),
        "gap": full and compare({FULL: [*chain(*full["accuracies"].values())]}, row["accuracies"]),  # no synthesis seed
    }


@dataclass(frozen=True)
class Line:
    """One row of a table as text, cell by cell; ``best`` where it shares the first rank of its budget."""

    cells: list[str]
    best: bool


@dataclass(frozen=True)
class Table:
    """One protocol, network and pixel space."""

    heading: str
    lines: list[Line]
    note: str
    columns: tuple[str, ...] = COLUMNS


@dataclass(frozen=True)
class Section:
    """One dataset of one suite: its reference lines and its tables."""

    title: str
    references: list[str]
    tables: list[Table]


def sections(rows: Sequence[Row], claims: Sequence[Claim] = ()) -> list[Section]:
    """The board as text, for whatever lays it out.

    Failed cells carry no protocol of their own, so they are listed in every table of their dataset.

    Args:
        rows: of a board, see ``leaderboard_rows``.
        claims: name the protocol behind each published figure.

    Returns:
        A section for each dataset.
    """
    result = []
    for (suite, dataset), of_dataset in grouped(compared(as_shown(rows)), ("suite", "dataset")):
        above = _above(of_dataset)
        sets = [row for row in of_dataset if row not in above]
        failed = [row for row in sets if row["protocol"] is None]
        groups = grouped([row for row in sets if row["protocol"] is not None], TABLE_KEYS)
        tables = [_table(group, failed, claims) for _, group in groups]
        if failed and not tables:
            tables = [Table("No scores yet", _lines(failed, claims), "")]
        references = [_reference_line(row, claims) for row in above]
        title = dataset if suite == dataset else f"{dataset} (suite {suite})"
        result.append(Section(title, references, tables))
    return result


def _above(of_dataset: Sequence[Row]) -> list[Row]:
    """The lines that stand above the tables: those under a protocol that no set is scored under."""
    of_sets = {row["protocol"] for row in of_dataset if row["method"] not in LINES}
    return [row for row in of_dataset if row["method"] in LINES and row["protocol"] not in of_sets]


def grouped(rows: Iterable[Row], keys: Sequence[str]) -> list[tuple[tuple, list[Row]]]:
    """Rows by what they have under some keys, in the order in which that first comes."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(groups.items())


def notes(shown: Sequence[Section], mark: str = "Bold") -> list[str]:
    """What a reader of these sections must know; ``mark`` is what shows the best accuracies."""
    with_reference = [section for section in shown if section.references]
    where = "the reference named above the table"
    if any(line.cells[1] == FULL for section in shown for table in section.tables for line in table.lines):
        where = "the row of that name, or the reference named above the table"
    elif not with_reference:
        where = "training on the whole split, which was not scored here: the column is empty"
    elif len(with_reference) < len(shown):
        where += ", where there is one"
    return [f"{_POINTS}{where}. {_ALONE}", _BEST.format(mark), *_NOTES]


def markdown(rows: Sequence[Row], claims: Sequence[Claim] = ()) -> str:
    """The board: a section per dataset, a table per protocol, the best accuracies of each budget in bold."""
    blocks, shown = ["# Leaderboard"], sections(rows, claims)
    for section in shown:
        blocks += [f"## {for_markdown(section.title)}", *map(for_markdown, section.references)]
        for table in section.tables:
            blocks += [f"### {for_markdown(table.heading)}", _grid(table), *filter(None, [for_markdown(table.note)])]
    return "\n\n".join([*blocks, *notes(shown), *_claims_blocks(rows, claims)]) + "\n"


def _claims_blocks(rows: Sequence[Row], claims: Sequence[Claim]) -> list[str]:
    """The claims that were put to the test, as a table; nothing where none was."""
    judged = judged_claims(rows, claims)
    if not judged:
        return []
    lines = [_line(CLAIM_COLUMNS), _line([":--", "--:", *[":--"] * 3, *["--:"] * 4, ":--", ":--"])]
    lines += [_line(map(for_markdown, cells)) for cells in judged]
    return ["## Claims", "\n".join(lines), CLAIMS]


def judged_claims(rows: Sequence[Row], claims: Sequence[Claim]) -> list[list[str]]:
    """The claims that were put to the test, as text under ``CLAIM_COLUMNS``."""
    lines = []
    for row in claims_table(rows, claims):
        if row["verdict"] == OTHER:
            continue
        half = half_width(row["measured"], row["ci_low"], row["ci_high"])
        figure = Claimed(accuracy=row["claimed"], std=row["claimed_std"], networks=row["claimed_networks"])
        cells = [
            row["dataset"], budget_of(row) or _ABSENT, row["method"], row["protocol"], row["pixel_space"],
            with_half_width(row["measured"], half), str(figure).replace(" %", ""),
            with_half_width(row["difference"], row["margin"], "+"),
            _ABSENT if row["standard_errors"] is None else f"{row['standard_errors']:+z.1f}".replace("-", "−"),
            row["verdict"], "; ".join(row["why"]),
        ]  # fmt: skip
        lines.append(cells)
    return lines


def _grid(table: Table) -> str:
    lines = [_line(table.columns), _line(["--:", ":--", ":--", *["--:"] * (len(table.columns) - 3)])]
    for line in table.lines:
        cells = map(for_markdown, line.cells)
        lines.append(_line(f"**{c}**" if line.best and i == _ACCURACY else c for i, c in enumerate(cells)))
    return "\n".join(lines)


def _table(group: list[Row], failed: list[Row], claims: Sequence[Claim]) -> Table:
    first = group[0]
    note = (
        f"Preset {', '.join(sorted({row['preset'] or _ABSENT for row in group}))}; "
        f"{_range('network', (row['networks'] for row in group))} on each set, "
        f"{_range('synthesis seed', (row['seeds'] for row in group))}. ± is half of the 95 % Student-t interval: over "
        "the synthesis seeds where there are two or more, else over the networks trained on the one set."
        + _of_these_sets([row["seeds"] for row in group if row["method"] not in LINES])
        + _compared_over([row["vs_random"] for row in group if row["vs_random"]])
    )
    heading = f"{first['protocol']} · {first['network']} · {first['pixel_space']} pixels"
    listed = sorted([*group, *failed], key=size_order)  # stable: accuracy still falls within a budget
    lines = _lines(listed, claims)
    if not any(row["needs"] for row in listed):
        return Table(heading, lines, note)
    for line, row in zip(lines, listed, strict=True):
        line.cells.insert(_AFTER, row["needs"] or _ABSENT)
    return Table(heading, lines, note, (*COLUMNS[:_AFTER], NEEDS, *COLUMNS[_AFTER:]))


def _of_these_sets(seeds: Sequence[int]) -> str:
    """That what is resolved by networks alone is said of sets and not of methods."""
    if len(seeds) < 2 or 1 not in seeds:
        return ""
    if max(seeds) == 1:
        return " Bold is for these sets: of one synthesis seed each, they do not say which method is better."
    return " Bold is for these sets where a row has one synthesis seed: it does not say which method is better."


def _compared_over(differences: Sequence[Difference]) -> str:
    """What the intervals of vs random are over, in words."""
    paired = dict.fromkeys(f"{', '.join(each.seeds)}" for each in differences if each.basis == "paired")
    said = [f"paired over the synthesis seeds {' or '.join(paired)}"] if paired else []
    alone = dict.fromkeys(each.seeds[0] for each in differences if each.basis == "one seed")
    if alone:
        seeds = " or ".join(alone)
        said.append(
            f"Welch's, over the networks of synthesis seed {seeds}, the one in common: of evaluation's randomness only"
        )
    if any(each.basis == "sets" for each in differences):
        said.append("Welch's, over the sets of either side")
    if any(each.basis == "networks" for each in differences):
        said.append("Welch's, where a side has one set: of its evaluation's randomness only")
    return f" That of vs random is {'; or '.join(said)}." if said else ""


def _lines(listed: list[Row], claims: Sequence[Claim]) -> list[Line]:
    presets = Counter(map(_shown_condition, listed))
    sets = [row for row in listed if row["method"] not in LINES]  # which alone are ranked
    best = list[int]()
    for _, group in grouped(sets, BUDGET):
        best += [id(row) for row, place in zip(group, places(group), strict=True) if place is not None and place.best]
    lines = []
    for row in listed:
        method = f"{row['method']} ({row['preset']})" if presets[_shown_condition(row)] > 1 else row["method"]
        method += f", {row['origin']}" if row.get("origin") else ""
        labels = "hard, strict" if row["strict"] else row["labels"] or _ABSENT
        cells = [budget_of(row) or _ABSENT, method, labels, _accuracy(row), *_details(row, claims)]
        lines.append(Line(cells, id(row) in best))
    return lines


def _shown_condition(row: Row) -> tuple:
    """What a line says of a row without its preset, which is said where two rows have this in common."""
    return budget_of(row), row["method"], row["labels"], row["strict"], row.get("origin")


def _details(row: Row, claims: Sequence[Claim]) -> list[str]:
    return [
        _points(row["vs_random"], "+"),
        _points(row["gap"]),
        _size(row["bytes"]),
        _synthesis(row),
        _ABSENT if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:,.0f} MB",
        _published(row, claims),
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _reference_line(full: Row, claims: Sequence[Claim]) -> str:
    published = "" if full["claimed"] is None else f" Published: {_published(full, claims)}."
    alone = ", one network" if len([*chain(*full["accuracies"].values())]) == 1 else ""
    where = f"{full['protocol']}, {full['network']}, {full['pixel_space']} pixels{alone}"
    score = f"{_accuracy(full)} %" if full["accuracy"] is not None else "failed"
    what = "full), the whole training split" if full["method"] == FULL else f"{full['method']}), initial values"
    return f"Reference ({what}: {score} ({where}).{published}"


def _published(row: Row, claims: Sequence[Claim]) -> str:
    if row["claimed"] is None:
        return _ABSENT
    claim = claim_beside(row, claims)
    if claim is None:
        return f"{row['claimed']:.1f} (protocol unknown)"
    unlike = differences(claim, row["network"], row["labels"], row["pixel_space"])
    said = [claim.protocol.replace("unknown", "protocol unknown"), *unlike]
    return f"{row['claimed']:.1f} ({', '.join(said)})"


def _accuracy(row: Row) -> str:
    if row["accuracy"] is None:
        return row["status"]
    doubt = ", changed since it was written" if row["status"] == "changed" else ""
    half = half_width(row["accuracy"], row["ci_low"], row["ci_high"])
    if half is None:
        return f"{row['accuracy']:.1f}{doubt}"
    ends = [f"{end}" for end in (0, 100) if end in (row["ci_low"], row["ci_high"]) and half > 0]
    cut = f", cut at {' and '.join(ends)}" if ends else ""
    return f"{with_half_width(row['accuracy'], half)}{cut}{doubt}"


def _points(difference: Difference | None, sign: str = "") -> str:
    return _ABSENT if difference is None else with_half_width(difference.difference, difference.half_width, sign)


def _size(count: int | None) -> str:
    if count is None:
        return _ABSENT
    for divisor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= divisor:
            return f"{count / divisor:.1f} {unit}"
    return f"{count} B"


def _synthesis(row: Row) -> str:
    """The set's own time and, where it needs some, that of pretrained networks."""
    own, pretraining = _duration(row["synthesis_seconds"]), row["pretraining_seconds"]
    return f"{own} + {_duration(pretraining)}" if pretraining else own


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _ABSENT
    for divisor, unit in ((3600, "h"), (60, "min")):
        if seconds >= divisor:
            return f"{seconds / divisor:.1f} {unit}"
    return f"{seconds:.1f} s"


def _range(what: str, counts: Iterable[int]) -> str:
    low, *_, high = sorted([*(values := list(counts)), max(values)])
    return f"{low} {what}{'' if low == 1 else 's'}" if low == high else f"{low} to {high} {what}s"
