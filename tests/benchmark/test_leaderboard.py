"""From result files to rows, tables and figures."""

import csv
import io
import json
import re

import pytest
from result_files import claim, failure, full, score, write

from distill_bench.benchmark.leaderboard import Source, board, published, render, tables
from distill_bench.benchmark.leaderboard.board import rows_of
from distill_bench.benchmark.leaderboard.claims import claim_for, differences, load_claims
from distill_bench.benchmark.leaderboard.collect import ROW_KEYS, as_shown, leaderboard_rows, of_suite
from distill_bench.benchmark.leaderboard.figures import MOST_LINES, accuracy_figure, conditions_line, panels_of
from distill_bench.benchmark.leaderboard.tables import RANDOM, compared
from distill_bench.cli import boards as terminal
from distill_bench.datasets import list_datasets
from distill_bench.distilled.card import Origin
from distill_bench.distilled.projector import Required
from distill_bench.errors import DataError
from distill_bench.evaluation import Synthesis
from distill_bench.evaluation.statistics import student
from distill_bench.methods import load_method

HEADER = (
    "method,dataset,size,ipc,accuracy,std,networks,protocol,network,norm,pixels,labels,selection,paper,source,reading,"
    "note\n"
)


RESULTS = [
    score("random", 1, 0, [60.0, 62.0]), score("random", 10, 0, [80.0, 82.0]),
    score("dm", 1, 0, [70.0, 74.0]), score("dm", 1, 1, [76.0, 80.0]), score("dm", 10, 0, [90.0, 92.5]),
    failure("mtt", 10), full(),
]  # fmt: skip


def test_seeds_are_pooled():
    second = score(seed=1, accuracies=[80.0, 84.0], bytes=3000, synthesis=Synthesis(seconds=20.0, peak_memory_mb=600.0))
    (row,) = leaderboard_rows([score(), second])
    assert tuple(row) == ROW_KEYS
    assert row["accuracy"] == pytest.approx((89.0 + 82.0) / 2)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((student([89.0, 82.0]).interval()[0], 100.0), abs=1e-4)
    assert (row["networks"], row["seeds"], row["bytes"]) == (2, 2, 3000)
    assert (row["synthesis_seconds"], row["peak_memory_mb"]) == (15.0, 556.0)
    assert row["pretraining_seconds"] is None, "of earlier results nobody knows"
    assert (row["claimed"], row["status"]) == (None, "done")


@pytest.mark.parametrize(
    "other",
    [{field: "other"} for field in ("suite", "dataset", "preset", "protocol", "network", "pixel_space")]
    + [{"labels": "teacher"}, {"size": 16}, {"holdout": 0.2}, {"flip_invariant": False}, {"classes": ("0", "1")}],
)
def test_conditions_are_never_pooled(other):
    assert len(leaderboard_rows([score(), score(seed=1, **other)])) == 2


def test_strict_and_stored_scores_stay_apart():
    results = [score("mtt"), score("mtt", accuracies=[50.0], strict=True), score("datm", labels="soft")]
    results += [score("datm", accuracies=[40.0], strict=True), score("random", accuracies=[30.0])]
    rows = {(row["method"], row["labels"], row["strict"]): row for row in compared(leaderboard_rows(results))}
    assert rows["mtt", "hard", False]["accuracy"] == 89.0
    assert (rows["mtt", "hard", True]["accuracy"], rows["mtt", "hard", True]["vs_random"].difference) == (50.0, 20.0)
    assert rows["datm", "hard", True]["accuracy"] == 40.0
    lines = tables.markdown(list(rows.values()))
    assert "\n| 1 | mtt | hard | " in lines and "\n| 1 | mtt | hard, strict | " in lines


def test_rows_are_json_safe_without_spread_or_cost():
    row = next(row for row in leaderboard_rows(RESULTS) if row["method"] == "full")
    assert (row["accuracy"], row["ipc"]) == (98.0, None)
    assert all(row[key] is None for key in ("ci_low", "ci_high", "bytes", "synthesis_seconds", "peak_memory_mb"))
    json.dumps(leaderboard_rows(RESULTS), allow_nan=False)


def test_order():
    order = [(row["ipc"], row["method"], row["status"]) for row in leaderboard_rows(reversed(RESULTS))]
    assert order == [
        (1, "dm", "done"), (1, "random", "done"), (10, "dm", "done"), (10, "random", "done"), (10, "mtt", "failed"),
        (None, "full", "done"),
    ]  # fmt: skip


def test_failed_cells():
    (failed,) = leaderboard_rows([failure(seed=0), failure(seed=1)], [claim("mtt")])
    assert (failed["status"], failed["accuracy"], failed["seeds"], failed["claimed"]) == ("failed", None, 2, 70.0)
    partly = leaderboard_rows([score(seed=0), failure("dm", seed=1)])
    assert [(row["status"], row["seeds"]) for row in partly] == [("done", 1), ("failed", 1)]


def test_a_failure_that_was_scored_since_is_forgotten():
    assert [row["status"] for row in leaderboard_rows([failure("dm"), score("dm")])] == ["done"]


def test_what_failed_under_one_protocol_stands_beside_what_was_scored_before_under_another():
    before, after = ({"run": {"finished": f"2026-11-30T{hour}:00:00+00:00"}, "cell_key": "one"} for hour in (10, 11))
    rows = leaderboard_rows([score("dm", **before), failure("dm", **after)])
    assert [row["status"] for row in rows] == ["done", "failed"]
    assert [row["status"] for row in leaderboard_rows([score("dm", **after), failure("dm", **before)])] == ["done"]


def test_a_set_that_was_given_does_not_take_the_place_of_what_the_suite_made():
    own, given = score("dm", cell_key="a"), {"given": "mine", "synthesis": None, "cell_key": "b", "seed": None}
    rows = leaderboard_rows([own, failure("dm", given="mine", cell_key="b")])
    assert [row["status"] for row in rows] == ["done", "failed"]
    rows = leaderboard_rows([own, score("dm", preset=None, set_sha256="x", **given)])
    assert {row["preset"] for row in rows} == {"cpu", "set mine"}


def test_a_failure_under_another_preset_hides_no_score():
    rows = leaderboard_rows([score("dm", cell_key="a"), failure("dm", cell_key="b", preset="paper")])
    assert [(row["preset"], row["status"]) for row in rows] == [("cpu", "done"), ("paper", "failed")]


def test_images_of_one_name_that_differ_are_no_rows_of_one_table():
    """Two folders called photos, of which one has random images alone: nothing of it stands beside the other."""
    here = [score(method, dataset="folder:photos") for method in ("random", "dm")]
    there = score("dsa", dataset="folder:photos", test_fingerprint="2")
    assert {row["dataset"] for row in leaderboard_rows(here)} == {"folder:photos"}
    rows = compared(leaderboard_rows([*here, there]))
    names = {row["method"]: row["dataset"] for row in rows}
    assert names["dm"] == names["random"] != names["dsa"]
    assert all(re.fullmatch(r"folder:photos \(images [0-9a-f]{6}\)", name) for name in names.values())
    assert {row["method"]: row["vs_random"] is not None for row in rows} == {"random": False, "dm": True, "dsa": False}
    failed = leaderboard_rows([*here, there, failure("random", dataset="folder:photos", cell_key="newer")])
    assert sorted(row["status"] for row in failed) == ["done", "done", "failed"]  # of the newest images, as the failure
    sources = [Source("here", here[1:]), Source("there", [here[0], there])]
    apart = {(row["method"], row["origin"]): row["dataset"] for row in compared(rows_of(sources))}
    assert apart["dm", "here"] == apart["random", "there"] != apart["dsa", "there"]
    named = [score("dm"), score("dsa", test_fingerprint="2")]
    assert {row["dataset"] for row in leaderboard_rows(named)} == {"digits"}


def test_a_score_of_an_older_method_is_no_result_of_a_cell_that_failed():
    older = score("dm", cell_key="old")
    assert [row["status"] for row in leaderboard_rows([older])] == ["done"]
    assert [row["status"] for row in leaderboard_rows([older, failure("dm", cell_key="new")])] == ["failed"]
    assert [row["status"] for row in leaderboard_rows([score("dm"), failure("dm", cell_key="new")])] == ["failed"]
    since = [score("dm", cell_key="new"), failure("dm", cell_key="new")]
    assert [row["status"] for row in leaderboard_rows(since)] == ["done"]
    other = [score("dm", seed=1, cell_key="old"), score("dsa", cell_key="old"), failure("dm", cell_key="new")]
    assert sorted(row["status"] for row in leaderboard_rows(other)) == ["done", "done", "failed"]


def test_claims_join_by_protocol_then_file_order():
    claims = [claim(accuracy=70.0), claim(accuracy=60.0, protocol="quick-v1"), claim(ipc=10), claim("full", ipc=None)]
    assert leaderboard_rows([score()], claims)[0]["claimed"] == 60.0
    assert leaderboard_rows([score(protocol="standard-v1")], claims)[0]["claimed"] == 70.0
    assert leaderboard_rows([full()], claims)[0]["claimed"] == 70.0
    assert claim_for(claims, "dm", "cifar10", 1) is None


@pytest.mark.parametrize(
    ("row", "fitting"),
    [
        (("quick-v1", "ConvNetD3", "hard"), 1.0),
        (("mtt-v1", "ConvNetD3", "hard"), 2.0),
        (("mtt-v1", "ResNet18BN", "soft"), 2.0),  # the protocol counts more than the network
        (("quick-v1", "ResNet18BN_AP", "hard"), 3.0),
        (("quick-v1", "ConvNetD4W64BN", "soft"), 4.0),
        (("quick-v1", "MLP", "soft"), 4.0),  # no figure on an MLP: the one with soft labels
        ((None, None, None), 1.0),
    ],
)
def test_the_fitting_claim_is_shown(row, fitting):
    claims = [
        claim(accuracy=0.5, reading="recalled"),
        claim(accuracy=0.6, reading="replicated"),
        claim(accuracy=1.0),
        claim(accuracy=2.0, protocol="mtt-v1"),
        claim(accuracy=3.0, network="ResNet18", norm="batch"),
        claim(accuracy=4.0, labels="soft"),
        claim(accuracy=5.0, paper="a repetition"),
    ]
    assert claim_for(claims, "dm", "digits", 1, *row).accuracy == fitting


@pytest.mark.parametrize(
    ("fields", "network", "labels", "said"),
    [
        ({}, "ConvNetD2W64", "hard", []),
        ({}, None, None, []),
        ({"network": "ResNet18", "norm": "batch"}, "ConvNetD3", "hard", ["ResNet18"]),
        ({"network": "ResNet18", "norm": "batch"}, "ResNet18BN_AP", "hard", []),
        ({"network": "ResNet18", "norm": "batch"}, "ResNet18", "hard", ["batch norm"]),
        ({"norm": "batch"}, "ConvNetD3", "hard", ["batch norm"]),
        ({"norm": "batch"}, "ConvNetD3BN", "hard", []),
        ({"norm": "unknown"}, "ConvNetD3BN", "hard", []),
        ({"network": "LeNet", "norm": "none"}, "LeNet", "hard", []),
        ({"labels": "soft"}, "ConvNetD3", "hard", ["soft labels"]),
        ({"selection": "best-on-test"}, "ConvNetD3", "hard", ["best on test"]),
    ],
)
def test_how_a_claim_differs_is_said(fields, network, labels, said):
    assert differences(claim(**fields), network, labels) == said
    if network:
        row = score(network=network, labels=labels)
        text = tables.markdown(leaderboard_rows([row], [claim(**fields)]), [claim(**fields)])
        assert f"70.0 ({', '.join(['dsa-v1', *said])})" in text


CLAIMS = published()
# in the readme of VICO-UoE/DatasetCondensation 53f63a6: two tables, and a sentence on large sets
READ_IN_DCS_README = {
    ("dc", "mnist"): {1: 91.7, 10: 97.4, 50: 98.8}, ("dc", "fashion_mnist"): {1: 70.5, 10: 82.3, 50: 83.6},
    ("dc", "svhn"): {1: 31.2, 10: 76.1, 50: 82.3}, ("dc", "cifar10"): {1: 28.3, 10: 44.9, 50: 53.9},
    ("dc", "cifar100"): {1: 12.8, 10: 25.2},
    ("dsa", "mnist"): {1: 88.7, 10: 97.8, 50: 99.2}, ("dsa", "fashion_mnist"): {1: 70.6, 10: 84.6, 50: 88.7},
    ("dsa", "svhn"): {1: 27.5, 10: 79.2, 50: 84.4}, ("dsa", "cifar10"): {1: 28.8, 10: 52.1, 50: 60.6},
    ("dsa", "cifar100"): {1: 13.9, 10: 32.3},
    ("dm", "cifar10"): {100: 67.0, 200: 71.2, 500: 76.1, 1000: 79.8, 1250: 80.8},
}  # fmt: skip


def test_what_is_said_to_be_read_in_dcs_readme_stands_there():
    cited = [claim for claim in CLAIMS if claim.source == "VICO-UoE/DatasetCondensation, readme"]
    found = {(claim.method, claim.dataset, claim.ipc): claim.accuracy for claim in cited}
    assert found == {(*key, ipc): value for key, by_ipc in READ_IN_DCS_README.items() for ipc, value in by_ipc.items()}
    assert {claim.reading for claim in cited} == {"first-hand"}


def test_figures_of_a_paper_that_were_read_in_another_ones_table_are_second_hand():
    theirs = [claim for claim in CLAIMS if claim.paper in ("DC", "DSA", "DM") and "FYI" in claim.source]
    cells = {(claim.method, claim.dataset, claim.ipc) for claim in theirs}
    assert cells == {("dsa", "cifar100", 50)} | {
        ("dm", dataset, ipc) for dataset in ("cifar10", "cifar100", "tiny_imagenet") for ipc in (1, 10, 50)
    }
    assert {claim.reading for claim in theirs} == {"second-hand"}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # the claims that boards show, typed again from the papers' tables
        (("dc", "mnist", 1), (91.7, None, "dc-v1")),
        (("dc", "svhn", 10), (76.1, None, "dc-v1")),
        (("dsa", "cifar100", 50), (42.8, 0.4, "dsa-v1")),
        (("dsa", "cifar10", 1, "quick-v1", "ConvNetD3", "hard"), (28.8, 0.7, "dsa-v1")),
        (("dm", "cifar10", 1000), (79.8, 0.3, "dsa-v1")),
        (("dm", "tiny_imagenet", 50), (24.1, 0.3, "dsa-v1")),
        (("dc", "cifar100", 50), (30.56, None, "dc-bench")),  # not in DC's own paper
        (("random", "cifar10", 50, "quick-v1"), (50.6, 0.3, "dsa-v1")),
        (("random", "cifar10", 50, "dc-v1"), (43.4, 1.0, "dc-v1")),
        (("random", "cifar10", 1, "dc-v1"), (14.4, 2.0, "dc-v1")),
        (("random", "mnist", 1), None),  # only recalled
        (("datadam", "mnist", 10), None),  # of a re-implementation
        (("herding", "cifar10", 10, "quick-v1"), (31.6, 0.7, "dc-v1")),
        (("k-center", "cifar100", 1), (8.6, 0.3, "dc-v1")),
        (("k-means", "cifar10", 1), (25.16, None, "dc-bench")),
        (("mtt", "cifar10", 1, "quick-v1", "ConvNetD3", "hard"), (46.3, 0.8, "mtt-v1")),
        (("mtt", "cifar100", 100), (49.2, 0.4, "mtt-v1")),
        (("mtt", "tiny_imagenet", 10), (23.2, 0.2, "mtt-v1")),
        (("tesla", "imagenet", 50), (27.9, 1.2, "mtt-v1")),
        (("tesla", "imagenet", 2), None),  # only recalled
        (("ftd", "cifar10", 10), (66.6, 0.3, "mtt-v1")),
        (("datm", "cifar10", 1000, "quick-v1", "ConvNetD3", "soft"), (85.5, 0.4, "datm-v1")),
        (("datm", "cifar10", 1000, "quick-v1", "LeNet", "soft"), (66.7, None, "datm-v1")),
        (("datm", "tiny_imagenet", 1), (17.1, 0.3, "datm-v1")),
        (("datadam", "cifar10", 50), (67.0, 0.4, "datadam-v1")),
        (("fyi-dsa", "cifar10", 10), (54.7, 0.5, "fyi-v1")),
        (("fyi-mtt", "tiny_imagenet", 50), (30.1, 0.3, "mtt-v1, always-flip DSA")),
        (("sre2l", "tiny_imagenet", 50, "quick-v1", "ResNet18BN", "teacher"), (41.1, 0.4, "sre2l-v1")),
        (("sre2l", "cifar10", 10, "quick-v1", "ResNet18BN", "hard"), (10.9, None, "cim")),
        (("cda", "imagenet", 200, "quick-v1", "ResNet50", "teacher"), (67.6, None, "sre2l-v1")),
        (("rded", "cifar100", 10, "quick-v1", "ConvNetD3BN", "teacher"), (48.1, 0.3, "rded-v1")),
        (("rded", "cifar100", 10, "quick-v1", "ResNet18BN", "teacher"), (42.6, 0.2, "rded-v1")),
        (("idc", "svhn", 50), (90.1, None, "idc")),
        (("full", "cifar10", None, "full-v1", "ConvNetD3", "hard"), (84.8, None, "unknown")),
        (("full", "cifar10", None, "full-v1", "ResNet18BN", "hard"), (93.86, None, "unknown")),
        (("full", "tiny_imagenet", None), (37.6, None, "unknown")),
    ],
)
def test_published_claims(key, expected):
    found = claim_for(CLAIMS, *key)
    assert (found and (found.accuracy, found.std, found.protocol)) == expected


def test_a_methods_own_paper_stands_before_others():
    own: dict[tuple, list[bool]] = {}
    for c in CLAIMS:
        own.setdefault((c.method, c.dataset, c.ipc), []).append(c.paper.lower() == c.method)
    assert all(found == sorted(found, reverse=True) for found in own.values())


def test_a_papers_standard_deviation_is_never_called_by_the_sign_of_an_interval():
    assert not [claim.note for claim in CLAIMS if "±" in claim.note]


def test_published_claims_are_complete_and_say_what_is_in_doubt():
    assert len(CLAIMS) == 625
    assert {c.dataset for c in CLAIMS} <= {*list_datasets(), "imagenet21k", "imagenet100"}
    assert all(c.note for c in CLAIMS if c.reading == "recalled" or "issue" in c.paper)
    assert {c.selection for c in CLAIMS if c.protocol in ("dc-v1", "dsa-v1") and c.paper in ("DC", "DSA", "DM")} == {
        "last",
        "unknown",  # random, in DC's table
    }
    best = {c.selection for c in CLAIMS if c.paper in ("MTT", "TESLA", "FTD", "DataDAM", "SRe2L") and c.ipc != 2}
    assert best == {"best-on-test", "unknown"}  # SRe2L's teacher
    (doubt,) = [c for c in CLAIMS if (c.method, c.dataset, c.ipc, c.paper) == ("random", "cifar10", 1, "DC")]
    assert (doubt.std, doubt.note) == (2.0, "AutoPalette has std 0.2")
    assert {(c.std, c.note) for c in CLAIMS if c.paper == "AutoPalette" and c.accuracy == 14.4} == {
        (0.2, "the DC paper has std 2.0")
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("dm,digits,,one,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,", "ipc.*'one'"),
        ("dm,digits,,0,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,", "ipc.*'0'"),
        ("dm,digits,0,1,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,", "size.*'0'"),
        ("dm,digits,,1,700,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,", "accuracy.*'700'"),
        ("dm,digits,,1,70,-1,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,", "std.*'-1'"),
        ("dm,digits,,1,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,first,DM,x,first-hand,", "selection.*'first'"),
        ("dm,digits,,1,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,third-hand,", "reading.*'third-hand'"),
        ("dm,digits,,1,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,,first-hand,", "source"),
        ("dm,digits,,1,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,,x,first-hand,", "paper"),
        ("dm,digits,,1,70,1,0,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,", "networks.*'0'"),
        ("dm,digits,,1,70", "expected the 17 columns"),
        ("dm,digits,,1,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,,y", "expected the 17 columns"),
        (
            "dm,digits,,2,71,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,elsewhere,second-hand,d",
            "repeats line 2",
        ),
    ],
)
def test_a_bad_claim_is_named_by_its_line(tmp_path, line, complaint):
    path = tmp_path / "published.csv"
    path.write_text(f"{HEADER}dm,digits,,2,70,,,dsa-v1,ConvNetD3,instance,unknown,hard,last,DM,x,first-hand,\n{line}\n")
    with pytest.raises(DataError, match=rf"published\.csv line 3.*{complaint}"):
        load_claims(path)


def test_missing_claims_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot read published accuracies"):
        load_claims(tmp_path / "published.csv")


def gains(rows):
    """Points over ``random`` by method, IPC, protocol, labels and pixels; None without one to compare."""
    keys = ("method", "ipc", "protocol", "labels", "pixel_space")
    return {
        tuple(row[key] for key in keys): row["random"] and row["accuracy"] - row["random"]
        for row in tables.compared(rows)
    }


def test_gain_over_random_compares_like_with_like():
    found = gains(leaderboard_rows([*RESULTS, score("dm", 1, labels="soft"), score("dm", 1, pixel_space="zca")]))
    assert found["dm", 1, "quick-v1", "hard", "normalized"] == pytest.approx(75.0 - 61.0)
    assert found["dm", 10, "quick-v1", "hard", "normalized"] == pytest.approx(91.25 - 81.0)
    assert found["dm", 1, "quick-v1", "soft", "normalized"] is None
    assert found["dm", 1, "quick-v1", "hard", "zca"] is None
    assert found["random", 1, "quick-v1", "hard", "normalized"] is None


def test_random_of_the_same_preset_goes_first():
    randoms = [score("random", 1, 0, [60.0], preset="cpu"), score("random", 1, 0, [50.0], preset="paper")]
    rows = leaderboard_rows([*randoms, score("dm", 1, 0, [70.0], preset="paper")])
    assert gains(rows)["dm", 1, "quick-v1", "hard", "normalized"] == 20.0


def test_random_with_a_teachers_labels_stands_beside_soft_rows():
    soft = [score("random-soft", 1, accuracies=(60.0,), labels="soft"), score("sre2l", 1, 0, (50.0,), labels="soft")]
    found = gains(leaderboard_rows([*RESULTS, *soft]))
    assert found["sre2l", 1, "quick-v1", "soft", "normalized"] == pytest.approx(-10.0)
    assert found["random-soft", 1, "quick-v1", "soft", "normalized"] is None
    assert found["dm", 1, "quick-v1", "hard", "normalized"] == pytest.approx(75.0 - 61.0)


def test_labels_of_a_kind_of_their_own_stand_beside_random_with_the_same():
    """All these are a teacher's; a set with two distances a view is not compared with one of whole logits."""
    scores = {"random-soft": 60.0, "random-recorded": 50.0, "random-distances": 40.0, "random-top2": 30.0,
              "rded": 70.0, "nrr-dd": 71.0, "nrr-dd-distances": 72.0}  # fmt: skip
    taught = [score(method, 1, accuracies=(each,), labels="teacher") for method, each in scores.items()]
    several = [
        score(method, 2, accuracies=(each,), labels="soft")
        for method, each in (
            ("random-soft", 60.0),
            ("random-ensemble", 55.0),
            ("infer", 65.0),
            ("infer nothing added", 66.0),
        )
    ]
    found = gains(leaderboard_rows([*RESULTS, *taught, *several]))
    of = {method: found[method, 1, "quick-v1", "teacher", "normalized"] for method in scores}
    assert {method: gain for method, gain in of.items() if gain is not None} == {
        "rded": 10.0, "nrr-dd": 21.0, "nrr-dd-distances": 32.0,
    }  # fmt: skip
    assert found["infer", 2, "quick-v1", "soft", "normalized"] == 10.0
    assert found["infer nothing added", 2, "quick-v1", "soft", "normalized"] == 11.0


def test_whitened_random_stands_beside_whitened_rows():
    whitened = [
        score(method, 1, accuracies=(accuracy,), pixel_space="zca")
        for method, accuracy in (("random-zca", 50.0), ("mtt", 70.0))
    ]
    found = gains(leaderboard_rows([*RESULTS, *whitened]))
    assert found["mtt", 1, "quick-v1", "hard", "zca"] == pytest.approx(20.0)
    assert found["random-zca", 1, "quick-v1", "hard", "zca"] is None
    assert found["dm", 1, "quick-v1", "hard", "normalized"] == pytest.approx(75.0 - 61.0)


def test_full_is_that_of_the_same_network_and_pixels_first():
    rows = leaderboard_rows([*RESULTS, full(90.0, network="MLP"), full(91.0, network="MLP", pixel_space="zca")])
    assert tables.compared(rows)[0]["full"] == 98.0
    other = leaderboard_rows([score(network="MLP", pixel_space="zca"), full(98.0), full(90.0, network="MLP")])
    assert tables.compared(other)[0]["full"] == 90.0
    assert all(row["full"] is None for row in tables.compared(leaderboard_rows(RESULTS[:-1])))


def probed(method, accuracy, protocol="probe-v1-linear-1", **fields):
    alone = {"ipc": None, "synthesis": None, "set_sha256": None, "labels": "none", "images": None}
    usual = alone if method in ("full", "untrained") else {"ipc": 1, "labels": "targets"}
    spread = (accuracy - 1, accuracy, accuracy + 1)
    return score(method, accuracies=spread, protocol=protocol, **{**usual, **fields})


def test_the_lines_of_probes_stand_in_their_table_unranked_and_with_the_gap_of_their_own_protocol():
    other = "probe-v1-finetune-1"
    results = [probed("krr-st", 60.0), probed("random-targets", 58.0), probed("untrained", 50.0), probed("full", 97.0)]
    results += [probed("krr-st", 70.0, other), probed("full", 80.0, other), probed("untrained", 75.0, other)]
    (section,) = tables.sections(leaderboard_rows(results))
    assert section.references == []
    assert "full is the row of that name" in tables.notes([section])[0]
    found = {
        table.heading.split(" ")[0]: {
            line.cells[1]: (line.cells[0], *line.cells[3:6], line.best) for line in table.lines
        }
        for table in section.tables
    }
    assert set(found[other]) == {"untrained", "krr-st", "full"}
    gaps = {name: cells[3].split(" ")[0] for name, cells in found[other].items()}
    assert gaps == {"untrained": "5.0", "krr-st": "10.0", "full": "0.0"}
    linear = found["probe-v1-linear-1"]
    assert linear["krr-st"][2].startswith("+2.0") and linear["krr-st"][3].startswith("37.0")
    assert (linear["untrained"][0], linear["untrained"][2]) == ("–", "–")
    assert [name for name, cells in linear.items() if cells[-1]] == ["krr-st", "random-targets"]  # not full


def test_a_line_under_a_protocol_that_no_set_has_stands_above_the_tables():
    (section,) = tables.sections(leaderboard_rows([score(), probed("untrained", 50.0)]))
    (line,) = section.references
    assert line.startswith("Reference (untrained), initial values: 50.0 ± ")


# --- what evaluate files, which no suite asked for


def evaluated(method="dm", **fields):
    return score(method, suite="evaluated", synthesis=None, **{"preset": None, "recipe": None, **fields})


def test_evaluated_results_stand_on_the_boards_of_their_data_beside_random_and_full():
    rows = leaderboard_rows([*RESULTS, evaluated("mine", accuracies=[65.0]), evaluated("mine", dataset="other")])
    assert {row["suite"] for row in rows} == {"digits", "evaluated"}
    digits, other = tables.sections(rows)
    (line,) = [line.cells for table in digits.tables for line in table.lines if line.cells[1] == "mine"]
    assert line[3:6] == ["65.0", "+4.0", "33.0"]
    assert (other.title, len(other.tables)) == ("other (suite evaluated)", 1)
    assert [row["dataset"] for row in of_suite(rows, "evaluated")] == ["other"]
    assert [row["method"] for row in of_suite(rows, "digits") if row["suite"] == "evaluated"] == ["mine"]
    drawn = {curve.method for panel in panels_of(rows) for curve in panel.curves}
    assert {"mine", "dm"} <= drawn


def test_a_suites_own_random_goes_before_a_guest():
    rows = leaderboard_rows(
        [score(accuracies=[70.0]), score("random", accuracies=[60.0]), evaluated("random", preset="cpu")]
    )
    assert [row["random"] for row in tables.compared(as_shown(rows)) if row["method"] == "dm"] == [60.0]


def test_sets_of_one_name_that_differ_in_what_made_them_are_told_apart():
    first, second = (
        evaluated(recipe={"iterations": 1}, preset="paper"),
        evaluated(recipe={"iterations": 2}, preset="paper"),
    )
    rows = leaderboard_rows([first, second])
    assert len({row["preset"] for row in rows}) == 2
    assert all(row["preset"].startswith("paper, changed ") for row in rows)
    (row,) = leaderboard_rows([first, evaluated(recipe={"iterations": 1}, preset="paper", seed=1)])
    assert (row["seeds"], row["preset"]) == (2, "paper, changed")


def test_a_preset_that_was_changed_by_hand_says_so_and_one_that_was_not_does_not():
    usual = load_method("dm").config("digits", 1, "cpu").model_dump(mode="json")
    for recipe, preset in ((usual, "cpu"), (usual | {"iterations": 3}, "cpu, changed")):
        assert [row["preset"] for row in leaderboard_rows([evaluated(recipe=recipe, preset="cpu")])] == [preset]
    own = evaluated(
        recipe=usual | {"iterations": 3}, preset="cpu", dataset="folder:x"
    )  # whose usual values nobody knows
    assert leaderboard_rows([own])[0]["preset"] == "cpu"


def test_a_strict_guest_is_marked_beside_what_a_suite_scored_as_it_is_stored():
    rows = leaderboard_rows([score("mtt"), evaluated("mtt", preset="cpu", strict=True, seed=1)])
    assert {(row["suite"], row["protocol"], row["strict"]) for row in rows} == {
        ("digits", "quick-v1", False), ("evaluated", "quick-v1", True),
    }  # fmt: skip


def test_several_sets_of_one_release_are_pooled_and_other_sets_without_a_seed_are_not():
    release = {"form": "res", "files": {"x.pt": "0"}, "sets": 2}
    sets = [evaluated("dc", seed=None, set_sha256=f"{i}", origin=Origin(**release, set_index=i)) for i in range(2)]
    (row,) = leaderboard_rows(sets)
    assert row["seeds"] == 2
    rows = leaderboard_rows(
        [evaluated("mine", seed=None, set_sha256="0"), evaluated("mine", seed=None, set_sha256="1")]
    )
    assert [row["seeds"] for row in rows] == [1, 1] and all(row["preset"].startswith("set ") for row in rows)


def test_what_networks_took_stands_behind_the_time_of_a_set():
    took = [Synthesis(seconds=10.0, pretraining_seconds=seconds) for seconds in (80.0, 120.0, 0.0)]
    rows = leaderboard_rows(
        [score("mtt", 1, 0, synthesis=took[0]), score("mtt", 1, 1, synthesis=took[1]), score("dm", synthesis=took[2])]
    )
    assert [(row["method"], row["synthesis_seconds"], row["pretraining_seconds"]) for row in rows] == [
        ("dm", 10.0, 0.0), ("mtt", 10.0, 100.0)
    ]  # fmt: skip
    text = tables.markdown(rows)
    assert "| 10.0 s + 1.7 min |" in text and "| 10.0 s |" in text and "behind +, what the networks took" in text
    (row,) = leaderboard_rows([score("mtt", 1, 0, synthesis=took[0]), score("mtt", 1, 1)])
    assert row["pretraining_seconds"] is None, "one of them does not say"


def test_what_labels_need_besides_is_a_column_of_its_own_and_no_part_of_the_size():
    weights = Required(id="pypi:encoder==1.0", sha256="0123456789ab" + 52 * "0", bytes=18_000_000)
    rows = leaderboard_rows([score("hello", labels="projector", requires=(weights,)), score("dm"), full()])
    needs = "pypi:encoder==1.0 (18,000,000 B, sha256 0123456789ab)"
    assert [(row["needs"], row["bytes"]) for row in rows] == [(None, 2640), (needs, 2640), (None, None)]
    head, _, *lines = [line for line in tables.markdown(rows).splitlines() if line[:1] == "|"]
    cells = [dict(zip(head.split(" | "), line.split(" | "), strict=True)) for line in lines]
    assert {(each["size"], each["needs"]) for each in cells} == {("2.6 kB", needs), ("2.6 kB", "–")}
    assert [line["needs"] for line in csv.DictReader(io.StringIO(tables.csv(rows)))] == ["", needs, ""]
    assert "| needs |" not in tables.markdown(leaderboard_rows([score("dm")]))
    (board,) = tables.sections(rows)[0].tables
    table = terminal._table(terminal._grid(board), range(len(board.columns)))
    shown = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    assert shown["needs"] == ["–", needs] and shown["synthesis"] == ["10.0 s"] * 2


def test_markdown_board():
    text = tables.markdown(leaderboard_rows(RESULTS, [claim()]), [claim()])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert len(cells) >= 3 and all(len(line) == len(tables.COLUMNS) for line in cells)
    half_width = student([72.0, 78.0]).interval()[1] - 75.0
    assert cells[2] == [
        "1", "dm", "hard", f"**75.0 ± {half_width:.1f}, cut at 100**", "+11.0 ± 13.8", "23.0", "2.6 kB", "10.0 s",
        "512 MB", "70.0 (dsa-v1)",
    ]  # fmt: skip
    assert cells[-1] == ["10", "mtt", "–", "failed", *["–"] * 6]
    assert cells[3][3:6] == ["**61.0 ± 12.7**", "–", "37.0"]  # not resolved from dm, whose seeds are far apart
    assert [line[3] for line in cells if line[:2] == ["10", "random"]] == ["81.0 ± 12.7"]
    assert text.count("**") == 2 * 3
    line = "Reference (full), the whole training split: {} (full-v1, ConvNetD2W64, normalized pixels{})."
    assert line.format("98.0 %", ", one network") in text
    several = tables.markdown(leaderboard_rows([score("dm"), full(98.0, 98.2, 97.8)]))
    assert line.format("98.0 ± 0.5 %", "") in several


def vs_random(*results):
    rows = {row["method"]: row["vs_random"] for row in tables.compared(leaderboard_rows(results))}
    note = tables.sections(leaderboard_rows(results))[0].tables[0].note
    return rows["dm"], note.rpartition("That of vs random is ")[2]


def test_a_table_says_that_one_set_each_says_nothing_of_the_methods():
    said = "Bold is for these sets: of one synthesis seed each, they do not say which method is better."
    one = [score("dm"), score("dsa", accuracies=(60.0, 61.0, 63.0))]
    assert said in tables.markdown(leaderboard_rows(one))
    assert said not in tables.markdown(leaderboard_rows([*one, score("dm", seed=1), score("dsa", seed=1)]))
    some = "Bold is for these sets where a row has one synthesis seed: it does not say which method is better."
    assert some in tables.markdown(leaderboard_rows([*one, score("dm", seed=1)]))


@pytest.mark.parametrize("values", [(55.89, 55.89), (0.1 + 0.2, 0.3), (100.0, 100.0)])
def test_seeds_that_do_not_differ_have_no_interval(values):
    (row,) = leaderboard_rows([score(seed=seed, accuracies=[value]) for seed, value in enumerate(values)])
    assert (row["ci_low"], row["ci_high"]) == (None, None)
    assert f"**{values[0]:.1f}**" in tables.markdown([row])


def test_vs_random_is_paired_over_common_seeds_and_says_which():
    random = [score("random", seed=seed, accuracies=[value]) for seed, value in ((0, 60.0), (1, 70.0), (7, 10.0))]
    dm = [score(seed=seed, accuracies=[value]) for seed, value in ((0, 71.0), (1, 82.0), (2, 0.0))]
    found, note = vs_random(*random, *dm)
    assert (found.basis, found.seeds, found.difference) == ("paired", ("0", "1"), 11.5)
    assert (found.ci_low, found.ci_high) == pytest.approx(student([11.0, 12.0]).interval())
    assert note == "paired over the synthesis seeds 0, 1."
    found, note = vs_random(score(accuracies=[80.0, 82.0]), score("random", accuracies=[60.0, 61.0, 63.0]))
    assert found.basis == "one seed" and note.endswith(
        "Welch's, over the networks of synthesis seed 0, the one in common: of evaluation's randomness only."
    )
    found, note = vs_random(score(accuracies=[80.0, 82.0]), score("random", seed=1, accuracies=[60.0, 61.0, 63.0]))
    assert found.basis == "networks" and note.endswith("of its evaluation's randomness only.")
    found, note = vs_random(score(accuracies=[80.0]), score("random", accuracies=[60.0, 61.0]))
    assert (found.difference, found.half_width, "That of" in note) == (19.5, None, False)


def test_one_protocol_per_table():
    rows = leaderboard_rows([score(), score(protocol="standard-v1"), score(pixel_space="zca"), full()])
    headings = [line for line in tables.markdown(rows).splitlines() if line.startswith("### ")]
    assert headings == [
        "### quick-v1 · ConvNetD2W64 · normalized pixels",
        "### quick-v1 · ConvNetD2W64 · zca pixels",
        "### standard-v1 · ConvNetD2W64 · normalized pixels",
    ]


def test_csv_round_trip():
    rows = leaderboard_rows(RESULTS)
    read = list(csv.DictReader(io.StringIO(tables.csv(rows))))
    columns = [key for key in ROW_KEYS if key not in ("accuracies", "registered")]
    assert [{key: "" if row[key] is None else str(row[key]) for key in columns} for row in rows] == read


@pytest.mark.parametrize("results", [RESULTS, [*RESULTS, score(dataset="other", ipc=5)], [failure()], []])
def test_figures_are_deterministic(results):
    rows = leaderboard_rows(results)
    first, second = accuracy_figure(rows), accuracy_figure(rows)
    assert first == second and first.startswith(b"\x89PNG")


def test_names_however_long_leave_room_for_the_lines():
    """Matplotlib warns, which fails a test, where they would leave none."""
    long = {name: f"/home/{name}/" + "x" * 240 for name in ("method", "suite", "dataset", "protocol", "network")}
    assert accuracy_figure(leaderboard_rows([score(**long), score()]))[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "digits · quick-v1 · ConvNetD2W64 · normalized"),
        ({"suite": "fyi"}, "digits, suite fyi · quick-v1 · ConvNetD2W64 · normalized"),
        ({"suite": "a-long-name-of-a-suite"}, "digits · quick-v1 · ConvNetD2W64 · normalized"),
        ({"dataset": f"folder:{'a' * 60}", "suite": "own"}, f"…{'a' * 13} · quick-v1 · ConvNetD2W64 · normalized"),
    ],
)
def test_the_line_under_a_panels_title_fits(fields, line):
    (row,) = leaderboard_rows([score(**fields)])
    assert conditions_line(row) == line and len(line) <= 68


def test_figures_show_sets_as_they_are_stored():
    soft = [score("datm", labels="soft"), score("datm", strict=True)]
    strict = [score("mtt"), score("mtt", strict=True)]
    panels = panels_of(leaderboard_rows([*RESULTS, *soft, *strict]))
    drawn = [row for panel in panels for curve in panel.curves for row in curve.rows]
    shown = [(row["method"], row["labels"]) for row in drawn if row["method"] in ("datm", "mtt")]
    assert sorted(shown) == [("datm", "soft"), ("mtt", "hard")]
    assert not any(row["strict"] for row in drawn)


def test_a_panel_is_a_family_beside_random_with_few_lines():
    many = [score(f"fyi-{name}", 1) for name in ("dc", "dsa", "dm", "datadam")]
    many += [score(name, 1) for name in ("dsa-always-flip", "dm-always-flip", "dm", "dc", "mtt", "herding")]
    panels = panels_of(leaderboard_rows([*many, score("datm", labels="soft"), *RESULTS]))
    assert max(panel.lines for panel in panels) <= MOST_LINES
    found = [(panel.family, sorted(curve.name for curve in panel.curves)) for panel in panels]
    assert found == [
        ("real images", ["herding", "random"]),
        ("gradient and mean matching", ["dc", "dm", "random"]),
        ("trajectory matching", ["datm (soft)", "mtt", "random"]),
        ("FYI on gradient and mean matching", [
            "dm-always-flip", "dsa-always-flip", "fyi-datadam", "fyi-dc", "fyi-dm", "fyi-dsa", "random",
        ]),
    ]  # fmt: skip
    crowd = panels_of(leaderboard_rows([score(f"own-{i}", 1) for i in range(9)]))
    assert [panel.lines for panel in crowd] == [5, 4]
    assert all(panel.full == 98.0 for panel in panels)
    lines = [score(name, 1, labels="teacher") for name in RANDOM]
    assert len(lines) >= MOST_LINES and panels_of(leaderboard_rows([*lines, score("rded", 1, labels="teacher")]))
    (beside,) = panels_of(leaderboard_rows([score("random"), score("reinforce", labels="teacher")]))
    assert [curve.method for curve in beside.curves] == ["random", "reinforce"], "where no line has these labels"
    (alone,) = panels_of(leaderboard_rows([score("random")]))
    assert [curve.name for curve in alone.curves] == ["random"]


def test_render_writes_all_three(tmp_path):
    folder = write(tmp_path / "results", RESULTS)
    paths = render(board(folder), tmp_path / "out")
    assert [path.name for path in paths] == ["leaderboard.md", "leaderboard.csv", "accuracy.png"]
    assert all(path.stat().st_size for path in paths)
    assert board(folder) == leaderboard_rows(RESULTS)
