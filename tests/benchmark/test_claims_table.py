"""Claims beside what was measured: which are judged, and what the others differ in."""

import json
from pathlib import Path

import pytest
from result_files import claim, failure, full, score

from distill_bench.benchmark.leaderboard import markdown
from distill_bench.benchmark.leaderboard.claimed import OTHER, claims_table
from distill_bench.benchmark.leaderboard.claims import published
from distill_bench.benchmark.leaderboard.collect import leaderboard_rows
from distill_bench.benchmark.results import read_results
from distill_bench.cli.claims import judged
from distill_bench.distilled.card import Origin
from distill_bench.evaluation.claim import check_claim, claim_of
from distill_bench.hub.registry.registry import load_registry

PAPERS = {"protocol": "dsa-v1", "network": "ConvNetD3", "preset": "paper"}


def table(results, *claims):
    found = claims_table(leaderboard_rows(results, claims), claims)
    json.dumps(found, allow_nan=False)
    return found


def test_a_claim_under_the_same_conditions_is_judged():
    (row,) = table([score(accuracies=[70.0, 71.0, 69.5], **PAPERS)], claim(accuracy=70.9, std=0.4))
    expected = check_claim([[70.0, 71.0, 69.5]], claim_of(70.9, 0.4))
    assert (row["verdict"], row["margin"]) == ("holds", expected.margin)
    assert (row["difference"], row["standard_errors"]) == (expected.difference, expected.standard_errors)
    assert (row["claimed"], row["claimed_std"], row["paper"], row["source"]) == (70.9, 0.4, "a paper", "its table")
    assert row["why"] == [*expected.assumptions, "one set: the error is of its evaluation only"]
    (row,) = table([score(accuracies=[60.0, 61.0, 59.5], **PAPERS)], claim(accuracy=70.9, std=0.4))
    assert row["verdict"] == "does not hold"


def test_a_protocol_with_another_network_is_judged_by_the_claim_of_that_network():
    measured = score(
        accuracies=[23.0, 23.4], protocol="rded-v1+ConvNetBN", network="ConvNetD3BN", preset="paper-convnet"
    )
    claims = [
        claim(accuracy=22.9, std=0.4, protocol="rded-v1", network="ResNet18", norm="batch"),
        claim(accuracy=23.5, std=0.3, protocol="rded-v1", norm="batch"),
    ]
    (row,) = table([measured], *claims)
    assert (row["claimed"], row["verdict"]) == (23.5, "holds")
    assert row["why"][-1] == "preset paper-convnet: other pretrained networks than the paper's"
    (row,) = table([measured], claims[1].model_copy(update={"protocol": "rded-v1+ConvNetBN"}))
    assert row["verdict"] == "holds"
    (row,) = table([measured], claims[0])
    assert (row["verdict"], row["why"]) == (OTHER, ["the claim is of ResNet18"])
    (row,) = table([measured.model_copy(update={"protocol": "rded-v1+no-augmentation"})], claims[1])
    assert (row["verdict"], row["why"]) == (OTHER, ["the claim is under rded-v1"])


def test_a_claim_of_images_of_another_size_is_shown_beside_sets_of_that_size_alone():
    of = {"dataset": "imagenet", "size": 64}
    (row,) = table([score(**PAPERS | of)], claim(accuracy=90.0, std=0.5, **of))
    assert row["verdict"] == "holds"
    assert table([score(**PAPERS | of | {"size": 128})], claim(accuracy=90.0, **of)) == []


def test_a_row_without_spread_beside_a_claim_of_unknown_networks_is_judged():
    (row,) = table([score(accuracies=[10.0] * 3, **PAPERS)], claim(accuracy=26.0, std=0.8))
    assert (row["verdict"], row["standard_error"]) == ("does not hold", 0.8)


def test_the_sets_of_a_release_are_judged_together():
    release = {"form": "res", "files": {"x.pt": "0"}, "sets": 2}
    sets = [
        score(accuracies=values, seed=None, set_sha256=f"{i}", synthesis=None, suite="evaluated",
              origin=Origin(**release, set_index=i), **PAPERS | {"preset": None})
        for i, values in enumerate(([70.0, 70.2], [71.0, 71.4]))
    ]  # fmt: skip
    (row,) = table(sets, claim(accuracy=70.5, std=0.5))
    assert (row["measured"], row["seeds"], row["verdict"]) == (70.65, 2, "holds")
    assert row["standard_error"] == pytest.approx((0.55**2 + 0.5**2) ** 0.5)
    assert not any("one set" in each for each in row["why"])


@pytest.mark.parametrize(
    ("fields", "of_claim", "why"),
    [
        ({"protocol": "quick-v1"}, {}, "the claim is under dsa-v1"),
        ({"preset": "cpu"}, {}, "preset cpu, not the paper's recipe"),
        ({"network": "ResNet18"}, {}, "the claim is of ConvNetD3"),
        ({"network": "ConvNetD3BN"}, {}, "the claim is of instance norm"),
        ({"labels": "soft"}, {}, "the claim is of hard labels"),
        ({"pixel_space": "normalized"}, {"pixels": "zca"}, "the claim is of zca pixels"),
        ({"strict": True}, {}, "classes and the protocol's rate in place of the set's own"),
        ({"recipe": {"iterations": 1}, "synthesis": None}, {}, "preset paper, changed, not the paper's recipe"),
    ],
)
def test_what_was_measured_otherwise_is_not_judged(fields, of_claim, why):
    (row,) = table([score(**PAPERS | fields)], claim(accuracy=20.0, std=0.1, **of_claim))
    assert (row["verdict"], row["why"], row["difference"]) == (OTHER, [why], 69.0)
    assert row["standard_error"] is row["standard_errors"] is row["margin"] is None


def test_a_preset_that_scales_nothing_down_is_the_papers_recipe():
    values = PAPERS | {"preset": "cpu"}
    (row,) = table([score("random", dataset="cifar10", **values)], claim("random", "cifar10", accuracy=89.0))
    assert row["verdict"] == "holds"
    (row,) = table([score("of-mine", **values)], claim("of-mine", accuracy=89.0))
    assert row["verdict"] == OTHER


def test_a_figure_that_is_the_best_of_several_is_judged_and_says_so():
    (row,) = table([score(**PAPERS)], claim(accuracy=89.0, std=1.0, selection="best-on-test", note="a doubt"))
    assert (row["verdict"], row["why"][0], row["why"][-1]) == ("holds", "the claim is the best on test", "a doubt")


def test_a_board_ends_with_the_claims_that_are_judged():
    results = [score(accuracies=[70.0, 71.0, 69.5], **PAPERS), score("dsa", **PAPERS | {"preset": "cpu"})]
    claims = [claim(accuracy=70.9, std=0.4, networks=5), claim("dsa")]
    text = markdown(leaderboard_rows(results, claims), claims)
    found = check_claim([[70.0, 71.0, 69.5]], claim_of(70.9, 0.4, 5))
    header, _, row = [line for line in text.split("## Claims")[1].splitlines() if line.startswith("|")]
    assert header.count("|") == row.count("|")
    assert "| digits | 1 | dm | dsa-v1 | normalized | 70.2 ± 1.9 | 70.9, std 0.4, 5 networks |" in row
    assert f"| {found.difference:.1f} ± {found.margin:.1f} |".replace("-", "−") in row
    assert f"| {found.standard_errors:.1f} | holds |".replace("-", "−") in row
    assert "## Claims" not in markdown(leaderboard_rows(results[1:], claims), claims)


def test_rows_without_a_claim_or_an_accuracy_have_no_part():
    assert table([failure("dm"), score("dsa"), full()], claim("dm")) == []


# --- published sets: the claim is their entry's in the registry

RESULTS = Path(__file__).parents[2] / "results"
REGISTRY = load_registry()


def measured_sets():
    """The committed results of every published set, by its id."""
    by_id = {}
    for result in read_results(RESULTS, "published"):
        (name,) = [
            name
            for name, entry in REGISTRY.items()
            if {file.sha256 for file in entry.files} == set(result.origin.files.values())
        ]
        by_id.setdefault(name, []).append(result)
    return by_id


@pytest.mark.parametrize("name", measured_sets())
def test_a_board_says_of_a_published_set_what_evaluate_says_of_its_id(name):
    results = measured_sets()[name]
    said = judged(REGISTRY[name], results)
    (row,) = claims_table(leaderboard_rows(results, published()), published())
    if row["verdict"] == OTHER:
        assert said == [f"no verdict: {row['why'][0]}"]
    else:
        figure = claim_of(row["claimed"], row["claimed_std"], row["claimed_networks"])
        assert said[0].startswith(f"{row['verdict']}: claimed {figure}; measured {row['measured']:.2f} %")


def test_a_figure_of_whitened_pixels_is_none_of_the_set_that_was_made_without():
    rows = {
        (row["method"], row["dataset"], row["ipc"], row["pixel_space"]): row
        for row in claims_table(leaderboard_rows(read_results(RESULTS, "published"), published()), published())
    }
    plain, whitened = (rows["mtt", "cifar10", 10, space] for space in ("normalized", "zca"))
    assert (plain["paper"], plain["claimed"], plain["verdict"]) == ("DC-BENCH", 63.66, OTHER)
    assert (whitened["paper"], whitened["claimed"]) == ("MTT", 65.3)
    stored = rows["dc", "cifar10", 1, "normalized"]
    assert (stored["claimed"], stored["claimed_std"], stored["claimed_networks"]) == (28.03, 0.6, 100)


def test_a_registered_set_without_a_claim_takes_none_of_its_method():
    entry = REGISTRY["mtt-cifar100-ipc1"]
    origin = Origin(form="tensors", files={file.path: file.sha256 for file in entry.files})
    fields = {"dataset": "cifar100", "protocol": "mtt-v1", "preset": None, "synthesis": None, "origin": origin}
    (row,) = leaderboard_rows([score("mtt", **fields)], published())
    assert (row["claimed"], row["registered"]) == (None, {}) and entry.claim is None


def test_a_part_of_a_registered_set_is_not_held_against_the_claim_for_the_whole():
    entry = REGISTRY["datm-cifar10-ipc10"]
    origin = Origin(form="datm", files={file.path: file.sha256 for file in entry.files})
    fields = {"dataset": "cifar10", "protocol": "datm-v1", "network": "ConvNetD3", "labels": "soft", "preset": None}
    fields |= {"pixel_space": "zca", "synthesis": None, "origin": origin}
    (row,) = table([score("datm", 5, **fields)])
    assert (row["verdict"], row["why"][0]) == (OTHER, "the claim is of the whole set, ipc 10, and this is ipc 5 of it")
