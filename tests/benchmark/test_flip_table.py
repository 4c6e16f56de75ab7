"""The tables of docs/flip.md: paired gains and their intervals, from results made up for it."""

import flip_table
import pandas
from result_files import score


def result(method, seed, accuracies, flip=False, always=False, ipc=10, recipe=True, **fields):
    recipe = {"flip": flip, "always_flip": always} if recipe else {}
    return score(method, ipc, seed, accuracies, dataset="made", network="ConvNetD3", recipe=recipe, **fields)


def table(results):
    """What ``load_results`` makes of them."""
    return pandas.json_normalize([{"data": each.data} | each.model_dump(mode="json") for each in results])


RESULTS = [
    result("random", 0, [1.0], recipe=False),
    *[result("dm", seed, [50.0 + seed, 52.0 + seed]) for seed in range(4)],  # seed 3 has no partner
    *[result("fyi-dm", seed, [53.0 + 2 * seed, 55.0 + 2 * seed], flip=True) for seed in range(3)],
    *[result("dm-always-flip", seed, [50.0, 52.0], always=True) for seed in range(3)],
    *[result("fyi-dm-released", seed, [51.0, 53.0], flip=True, always=True) for seed in range(3)],
    result("dc", 0, [40.0, 41.0, 45.0], ipc=1),
    result("fyi-dc", 0, [41.0, 43.0, 44.0], flip=True, ipc=1),
    result("mtt", 0, [60.0, 61.0], ipc=1),
    result("fyi-mtt", 0, [61.0, 62.0], flip=True, ipc=1),
    result("mtt", 0, [70.0, 72.0], ipc=1, strict=True),
    result("fyi-mtt", 0, [69.0, 71.0], flip=True, ipc=1, strict=True),
]


CONDITIONS = ("made", 10, "dm", "cpu", "quick-v1", "ConvNetD3", "normalized")


def test_a_gain_is_over_the_pairs_of_the_seeds_that_both_have():
    pair = flip_table.paired(flip_table.by_variant(table(RESULTS))[CONDITIONS], flip_table.OFF, flip_table.FLIP)
    assert list(pair.index) == [0, 1, 2]
    # 3, 4 and 5; t with two degrees of freedom
    assert flip_table.gain(pair, flip_table.OFF, flip_table.FLIP) == f"+4.0 ± {4.3027 * 1 / 3**0.5:.1f}".join(
        ["**", "**"]
    )


def test_a_gain_within_its_interval_is_not_bold():
    pairs = pandas.DataFrame({"before": [[50.0, 52.0]], "after": [[51.0, 52.0]]})
    assert flip_table.gain(pairs, "before", "after") == "+0.5 ± 6.4"


def test_what_was_made_or_scored_otherwise_is_no_pair():
    for other in (
        {"preset": "paper"}, {"network": "ConvNetD3BN"}, {"pixel_space": "zca"}, {"method": "dm-released"}, {"seed": 9},
    ):  # fmt: skip
        both = [result("dm", 0, [50.0]), result("fyi-dm", 0, [40.0], flip=True).model_copy(update=other)]
        assert "made" not in flip_table.tables(table(both))
    assert "| made | 10 | dm | 50.0 | 40.0 | −10.0 | 1 |" in flip_table.tables(
        table([result("dm", 0, [50.0]), result("fyi-dm", 0, [40.0], flip=True), result("dm-released", 0, [1.0])])
    )


def test_the_tables_tell_the_two_effects_apart():
    lines = flip_table.tables(table(RESULTS)).splitlines()
    assert "| made | 1 | dc | 42.0 ± 6.6 | 42.7 ± 3.8 | +0.7 ± 3.8 | 1 |" in lines
    assert "| made | 10 | dm | 52.0 ± 2.5 | 56.0 ± 5.0 | **+4.0 ± 2.5** | 3 |" in lines
    assert "| made | 1 | mtt | 60.5 ± 6.4 | 61.5 ± 6.4 | **+1.0 ± 0.0** | 1 |" in lines
    assert "| made | 1 | mtt (strict) | 71.0 ± 12.7 | 70.0 ± 12.7 | **−1.0 ± 0.0** | 1 |" in lines
    effects = [line.split(" | ")[3:] for line in lines if line.startswith("| made | 10 | dm | ")][1:]
    assert effects == [
        ["the flip, DSA as published", "**+4.0 ± 2.5**", "3 |"],
        ["the flip, DSA always flipping", "**+1.0 ± 0.0**", "3 |"],
        ["DSA always flipping, without the flip", "−1.0 ± 2.5", "3 |"],
        ["DSA always flipping, with the flip", "−4.0 ± 5.0", "3 |"],
        ["both, as the released code runs", "+0.0 ± 2.5", "3 |"],
    ]


def test_the_page_is_filled_between_its_marks():
    page = flip_table.PAGE.read_text()
    assert page.count(flip_table.BEGIN) == page.count(flip_table.END) == 1
    assert page.index(flip_table.BEGIN) < page.index(flip_table.END)
