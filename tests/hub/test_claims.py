"""A claimed accuracy is put to the test: by verify --claim, and by evaluate of a published set."""

import json
import statistics

import pytest
import torch
from releases_at_hand import LABELS, smooth
from result_files import score
from short_protocol import short_quick_v1

from distill_bench.cli.claims import judged
from distill_bench.distilled.card import Origin
from distill_bench.evaluation.claim import check_claim, claim_of
from distill_bench.hub.registry.registry import Entry

NAME = "dc-digits-ipc2"
STORED = [0.08, 0.1, 0.12, 0.5, 0.52, 0.54]


@pytest.fixture(scope="module", autouse=True)
def _short(tmp_path_factory):
    with short_quick_v1(tmp_path_factory.mktemp("home"), epochs=2):
        yield


@pytest.fixture
def file(command, tmp_path):
    made = tmp_path / "made.safetensors"
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", made)[0] == 0
    return made


# --- verify --claim


def test_a_claim_that_holds_and_one_that_does_not(command, file):
    words = ["evaluate", file, "--protocol", "quick-v1", "--networks", 16, "--json"]
    found = json.loads(command(*words)[1])["accuracies"]
    mean = statistics.fmean(found)
    claim = ["verify", file, "--protocol", "quick-v1", "--networks", 16, "--std", 0.4]
    code, said, _ = command(*claim, "--claim", mean + 0.1, "--json")
    verdict = json.loads(said)
    expected = check_claim([found], claim_of(mean + 0.1, 0.4, 16))
    assert (code, verdict["holds"], expected.outcome) == (0, True, "holds")
    assert verdict["accuracies"] == [found]  # of the kept networks: nothing is trained twice
    assert (verdict["margin"], verdict["standard_errors"]) == (expected.margin, expected.standard_errors)
    assert (verdict["claimed"], verdict["claimed_std"], verdict["claimed_networks"]) == (mean + 0.1, 0.4, 16)
    code, said, _ = command(*claim, "--claim", mean + 40)
    assert (code, said.split(":")[0]) == (4, "does not hold")
    assert "apart by -40.00 points" in said and "standard errors of" in said and "random on digits, ipc 1" in said
    code, said, _ = command(*claim, "--claim", mean, "--claimed-networks", 100, "--json")
    assert json.loads(said)["claimed_networks"] == 100


def test_a_claim_whose_networks_are_not_said_is_over_those_trained_and_says_so(command, file):
    claim = ["verify", file, "--protocol", "quick-v1", "--claim", 50, "--std", 0.2]
    note = "the claim is taken to be over 2 networks (--networks); --claimed-networks says otherwise"
    assert f"note: {note}" in command(*claim, "--networks", 2)[1]
    assert json.loads(command(*claim, "--networks", 2, "--json")[1])["assumptions"] == [note]
    assert "taken to be over" not in command(*claim, "--networks", 2, "--claimed-networks", 2)[1]
    assert "one is assumed" in command(*claim)[1]


def test_a_claim_for_a_set_with_a_holdout_says_on_which_images_it_is_judged(command, tmp_path):
    made = tmp_path / "held.safetensors"
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--holdout", 0.3, "--out", made)[0] == 0
    claim = ["verify", made, "--claim", 50, "--protocol", "quick-v1", "--networks", 2, "--claimed-networks", 2]
    note = "note: judged on images held out of the training split, not on the test split: --split test"
    said = command(*claim)[1]
    assert note in said and "random on digits holdout 0.3" in said
    said = command(*claim, "--split", "test")[1]
    assert "held out" not in said and "random on digits," in said
    assert "--split train: give test or holdout" in command(*claim, "--split", "train")[2]
    plain = tmp_path / "made.safetensors"
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", plain)[0] == 0
    code, _, error = command("verify", plain, "--claim", 50, "--split", "holdout")
    assert (code, "was made without a holdout" in error) == (2, True)
    assert "--split test: the result" in command("verify", made, "result.json", "--split", "test")[2]


def test_one_network_resolves_nothing(command, file):
    code, said, _ = command("verify", file, "--claim", 66.8, "--networks", 1, "--protocol", "quick-v1")
    assert (code, said.split(":")[0]) == (4, "not resolved")
    assert "there is no standard error of it: train more with --networks" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what is claimed? Give a result"),
        (["--std", 0.2], "what is claimed? Give a result"),
        (["--claim", 150], "--claim 150 is no accuracy: give percent, from 0 to 100"),
        (["--claim", -1], "--claim -1 is no accuracy"),
        (["--claim", "nan"], "--claim nan is no accuracy"),
        (["--claim", 66.8, "--std", -0.2], "--std -0.2 is no standard deviation"),
        (["--claim", 66.8, "--claimed-networks", 0], "--claimed-networks 0: give how many"),
        (
            ["--claim", 66.8, "--std", 0.2, "--networks", 1],
            "--std 0.2 of one network: one has no spread. Leave it out, or give --claimed-networks above 1.",
        ),
        (["--claim", 66.8, "--labels", "soft"], "--labels 'soft': give stored or hard"),
        (["--claim", 66.8, "--protocol", "quick"], "unknown protocol 'quick'. Did you mean quick-v1?"),
        (["result.json", "--claim", 66.8, "--std", 0.2], "--claim 66.8, --std 0.2: the result result.json says"),
        (["result.json", "--protocol", "quick-v1"], "--protocol quick-v1: the result result.json says"),
        (["result.json", "--labels", "hard"], "--labels hard: the result result.json says"),
    ],
)
def test_what_is_no_claim_is_refused_before_any_work(command, file, monkeypatch, words, said):
    monkeypatch.setattr("distill_bench.training.train.train", lambda *_, **__: pytest.fail("something was trained"))
    code, out, error = command("verify", file, *words)
    assert (code, out, len(error.splitlines())) == (2, "", 1)
    assert said in error


# --- a published set


@pytest.fixture
def released(command, tmp_path, monkeypatch):
    """A release of two independent sets with three accuracies each, downloaded, and the words that name it."""
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    content = {"data": [[smooth(seed), LABELS] for seed in range(2)], "accs_all_exps": {"ConvNet": STORED}}
    torch.save(content, tmp_path / "res_DC_digits_ConvNet_2ipc.pt")
    registry = tmp_path / "own.toml"
    registry.write_text(
        f'[{NAME}]\nmethod = "dc"\ndataset = "digits"\nipc = 2\nimporter = "res"\nprotocol = "quick-v1"\n'
        f'page = "https://example.org"\nclaim = "stored"\n[[{NAME}.files]]\npath = "res_DC_digits_ConvNet_2ipc.pt"\n'
    )
    words = [NAME, "--registry", registry]
    code, _, error = command("download", *words, "--file", tmp_path / "res_DC_digits_ConvNet_2ipc.pt")
    assert code == 0, error
    return words


def test_evaluate_ends_with_the_verdict_on_the_first_set(command, released):
    code, said, error = command("evaluate", *released)
    assert code == 0, error
    _, _, _, claimed, verdict, apart = said.splitlines()[:6]
    assert claimed.startswith("stored in the release: ConvNet 31.00, std 21.06 (6 networks) of 2 sets")
    assert ": claimed 10 %, std 1.633, 3 networks; measured " in verdict and "(2 networks of one set)" in verdict
    assert apart.startswith("apart by ")
    assert "the first of 2 independent sets" in error and "--all-sets" in error


def test_all_sets_are_held_against_the_claim_for_all(command, released, tmp_path):
    code, said, error = command("evaluate", *released, "--all-sets", "--results", tmp_path / "results")
    assert code == 0, error
    lines = (tmp_path / "results/evaluated.jsonl").read_text().splitlines()
    means = [json.loads(line)["accuracy"] for line in lines]
    assert len(means) == 2 and f"mean over 2 independent sets: {statistics.fmean(means):.2f} ± " in said
    assert ": claimed 31 %, std 21.06, 6 networks; measured " in said and "(4 networks of 2 sets)" in said
    assert "the first of" not in error
    code, said, error = command("evaluate", *released, "--all-sets", "--json")
    assert sorted(each["accuracy"] for each in json.loads(said)) == sorted(means)
    assert "measured" in error
    code, said, _ = command("verify", *released, "--claim", 31, "--json")
    assert (json.loads(said)["sets"], json.loads(said)["networks"]) == (2, 4)


def test_there_is_no_verdict_under_other_conditions(command, released):
    code, said, error = command("evaluate", *released, "--holdout", 0.3, "--allow-leak")
    assert code == 0, error
    assert said.endswith("no verdict: the claim is on digits\n")


ENTRY = {
    "method": "dm", "dataset": "cifar10", "ipc": 1, "protocol": "dsa-v1", "page": "https://example.org",
    "files": [{"path": "x.safetensors"}],
}  # fmt: skip


def verdict(claim, **fields):
    measured = {"dataset": "cifar10", "protocol": "dsa-v1", "network": "ConvNetD3", "preset": None, "synthesis": None}
    return judged(Entry.model_validate(ENTRY | {"claim": claim}), [score(**measured | fields)])


def test_claims_of_every_kind_are_judged():
    stated = {"accuracy": 88.5, "std": 1.0, "networks": 4, "source": "x.json"}
    expected = check_claim([[88.0, 89.0, 90.0]], claim_of(88.5, 1.0, 4))
    first, second = verdict(stated)
    assert first == "holds: claimed 88.5 %, std 1, 4 networks; measured 89.00 % (3 networks of one set)"
    assert f"{expected.standard_errors:.1f} standard errors of {expected.standard_error:.2f}" in second
    assert f"chance explains up to {expected.margin:.2f} (95 %)" in second
    listed = verdict({"paper": "DM"})
    assert listed[0].startswith("does not hold: claimed 26 %, std 0.8; measured 89.00 %")
    assert listed[-1] == "note: it does not say how many networks it is over: one is assumed"
    assert verdict(None) == [] == verdict("stored")
    origin = Origin(form="res", files={}, stored_accuracies={"ConvNet": (0.885, 0.89)})
    assert verdict("stored", origin=origin)[0].startswith("holds: claimed 88.75 %, std 0.25, 2 networks;")
    assert verdict("stored", origin=origin, network="MLP") == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"protocol": "quick-v1"}, "the claim is under dsa-v1"),
        ({"ipc": 2}, "the claim is of the whole set, ipc 1, and this is ipc 2 of it"),
        ({"network": "ConvNetD4"}, "the claim is of ConvNetD3"),
        ({"network": "ResNet18BN"}, "the claim is of ConvNetD3"),
        ({"labels": "soft"}, "the claim is of hard labels"),
        ({"holdout": 0.2}, "the claim is on cifar10"),
        ({"strict": True}, "classes and the protocol's rate in place of the set's own"),
    ],
)
def test_what_was_measured_otherwise_has_no_verdict(fields, why):
    assert verdict({"paper": "DM"}, **fields) == [f"no verdict: {why}"]


# --- a set of one's own that was published with a claim under another protocol than its card's


@pytest.fixture
def of_ours(command, tmp_path, monkeypatch):
    """A set whose card names dsa-v1 and whose entry quick-v1, downloaded, and the words that name it."""
    made = tmp_path / "random-digits-ipc1.safetensors"
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", made)[0] == 0
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    registry = tmp_path / "own.toml"
    registry.write_text(
        f'[random-digits-ipc1]\nmethod = "random"\ndataset = "digits"\nipc = 1\nprotocol = "quick-v1"\n'
        f'page = "https://example.org"\nclaim = {{ accuracy = 50.0, std = 9.0, networks = 2, source = "x.json" }}\n'
        f'[[random-digits-ipc1.files]]\npath = "{made.name}"\n'
    )
    code, _, error = command("download", "random-digits-ipc1", "--registry", registry, "--file", made)
    assert code == 0, error
    return ["random-digits-ipc1", "--registry", registry]


def test_an_id_is_evaluated_under_the_protocol_of_its_entry(command, of_ours):
    code, said, error = command("evaluate", *of_ours)
    assert code == 0, error
    assert "protocol quick-v1" in said and "no verdict" not in said
    code, said, error = command("verify", *of_ours, "--claim", 50, "--json")
    assert (code in (0, 4), json.loads(said)["protocol"]) == (True, "quick-v1"), error
