"""The tables of docs/reproduction.md: what is judged, and what is not."""

import re
from pathlib import Path

import reproduction
from reproduced_sets import scores_of
from result_files import claim, failure, score

from distill_bench.benchmark.leaderboard import published

ROOT = Path(__file__).parents[2]

PAPERS = {"suite": "reproduction", "dataset": "cifar10", "network": "ConvNetD3", "preset": "paper", "ipc": 1}


def result(method, accuracies, protocol):
    return score(method, accuracies=accuracies, protocol=protocol, **PAPERS)


def test_claims_under_their_own_conditions_are_judged_and_counted():
    results = [
        result("dm", [26.0, 26.4, 25.9], "dsa-v1"),
        result("dm", [27.0, 27.4, 26.9], "standard-v1"),
        result("dc", [20.0, 20.4, 19.9], "dc-v1"),
        failure("mtt", **{name: PAPERS[name] for name in ("suite", "dataset", "preset")}),
    ]
    claims = [
        claim("dm", "cifar10", accuracy=26.0, std=0.8, networks=5),
        claim("dc", "cifar10", accuracy=28.3, std=0.5, networks=100, protocol="dc-v1"),
    ]
    shown = reproduction.tables(results, claims)
    assert shown.startswith("1 of the 2 claims that were measured under their own conditions hold.")
    assert "| dm, cifar10 | dsa-v1 | 26.0 ± 0.8 | 26.1 ± 0.7 | +0.1 | +0.3 | holds | " in shown
    assert "| dc, cifar10 | dc-v1 | 28.3 ± 0.5 | 20.1 ± 0.7 | −8.2 | −" in shown and "does not hold" in shown
    assert "| dm, cifar10 | standard-v1 | 27.1 ± 0.7 | 26.0 | the claim is under dsa-v1 |" in shown


def test_without_a_claim_there_is_no_table():
    assert "|" not in reproduction.tables([result("dm", [26.0, 26.4], "dsa-v1")], [])


def test_the_page_has_the_committed_results_and_readme_says_how_many_claims_hold():
    text = reproduction.tables(scores_of(ROOT / "results"), published())
    assert text in (ROOT / "docs" / "reproduction.md").read_text()
    (counted,) = re.findall(r"^\d+ of the \d+ claims", text, re.M)
    assert f"{counted} measured so far hold" in (ROOT / "README.md").read_text()
