"""One set on many networks: which, with which figures, and what is left out and said."""

import importlib
import json

import pytest

from distill_bench import evaluate, synthesize
from distill_bench.errors import RunFailed, UsageError
from distill_bench.evaluation import PROTOCOLS, scoring
from distill_bench.evaluation.measures import shown, transfer
from distill_bench.networks import ARCHITECTURES

MODULE = importlib.import_module(
    "distill_bench.evaluation.measures.transfer"
)  # the package gives its name to the function
SMALL = ["ConvNetD1W4", "MLP", "ConvNetD2W4BN"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))  # accuracies of a shortened protocol stay here
    short = {"epochs": 2, "networks": 2, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", PROTOCOLS["quick-v1"].model_copy(update=short))


@pytest.fixture(scope="module")
def few(digits):
    return synthesize(digits, "random", ipc=1)


def test_every_score_is_that_of_the_evaluator(digits, few):
    found = transfer(few, digits, "quick-v1", SMALL, 1)
    assert [score.network for score in found.scores] == SMALL
    alone = [evaluate(few, digits, "quick-v1", name, 1) for name in SMALL]
    assert [s.model_dump(exclude={"run"}) for s in found.scores] == [s.model_dump(exclude={"run"}) for s in alone]
    assert found.mean_of_others == pytest.approx((found.scores[1].accuracy + found.scores[2].accuracy) / 2)
    assert found.left_out == {}
    alone = transfer(few, digits, "quick-v1", ["MLP", "MLP"], 1)
    assert (len(alone.scores), alone.mean_of_others) == (1, None)


def test_by_default_all_that_take_the_resolution(digits, few, monkeypatch):
    score = evaluate(few, digits, "quick-v1", "MLP", 1)

    def quick(distilled, source, protocol, name, *others, **options):
        return score.model_copy(update={"network": name})

    monkeypatch.setattr(MODULE, "evaluate", quick)
    found = transfer(few, digits, "quick-v1")
    fitting = ["MLP", "AlexNet", "AlexNetBN", "ResNet18BN", "ResNet18BN_AP", "ViT"]
    assert [score.network for score in found.scores] == ["ConvNetD1W4", *fitting]
    assert found.left_out.keys() == ARCHITECTURES.keys() - set(fitting)
    assert "LeNet needs images of 16 px or more, not 8×8" in found.left_out["LeNet"]


def test_training_that_diverges_is_left_out_and_said(digits, few, monkeypatch):
    def failing(distilled, source, protocol, name, *others, **options):
        if name in diverging:
            raise RunFailed(f"{name} diverged")
        return evaluate(distilled, source, protocol, name, *others, **options)

    monkeypatch.setattr(MODULE, "evaluate", failing)
    diverging = {"MLP"}
    found = transfer(few, digits, "quick-v1", SMALL, 1)
    assert [score.network for score in found.scores] == ["ConvNetD1W4", "ConvNetD2W4BN"]
    assert found.left_out == {"MLP": "MLP diverged"}
    diverging = set(SMALL)
    with pytest.raises(RunFailed, match="no network could be trained on the set: ConvNetD1W4 diverged MLP diverged"):
        transfer(few, digits, "quick-v1", SMALL, 1)


def test_what_was_cut_off_goes_on(digits, few, tmp_path, monkeypatch):
    whole = transfer(few, digits, "quick-v1", SMALL, 2, cache=tmp_path)
    monkeypatch.setattr(scoring, "train", None)  # no training
    again = transfer(few, digits, "quick-v1", SMALL, 2, cache=tmp_path)
    assert [score.accuracies for score in again.scores] == [score.accuracies for score in whole.scores]


def test_a_spread_is_shown_where_there_is_one(digits, few):
    one, two = (transfer(few, digits, "quick-v1", ["MLP"], count).scores[0] for count in (1, 2))
    assert shown(one) == f"{one.accuracy:.1f}"
    half_width = abs(two.accuracies[0] - two.accuracies[1]) / 2 * 12.7062  # t(0.975, 1 degree of freedom)
    assert max(two.accuracies) < 50 > half_width  # not cut
    assert shown(two) == f"{sum(two.accuracies) / 2:.1f} ± {half_width:.1f}"


def test_a_network_that_is_asked_for_must_fit(digits, few):
    with pytest.raises(UsageError, match="LeNet needs images of 16 px or more, not 8×8"):
        transfer(few, digits, "quick-v1", ["MLP", "LeNet"])
    with pytest.raises(UsageError, match="unknown network 'Nope'"):
        transfer(few, digits, "quick-v1", ["Nope"])


def test_a_librarys_network_that_does_not_fit_is_said_before_others_are_trained(digits, few, monkeypatch):
    monkeypatch.setattr(MODULE, "evaluate", lambda *_, **__: pytest.fail("work was begun"))
    with pytest.raises(UsageError, match="maxvit_t cannot be built for images of 1×8×8"):
        transfer(few, digits, "quick-v1", ["MLP", "torchvision:maxvit_t"])


def test_the_command_prints_a_table_or_json(few, command, tmp_path):
    few.save(tmp_path / "few.safetensors")
    options = [tmp_path / "few.safetensors", "transfer", "--protocol", "quick-v1", "--networks", 1]
    options += ["--network", "ConvNetD1W4", "--network", "MLP"]
    code, said, _ = command("measure", *options, "--json")
    facts = json.loads(said)
    assert (code, facts["kind"], facts["left_out"]) == (0, "transfer", {})
    assert facts["run"]["seconds"] > 0 and facts["run"]["device"]
    code, said, _ = command("measure", *options)
    assert code == 0
    for score in facts["scores"]:
        assert f"| {score['network']} | {score['accuracy']:.1f} | 1 |" in said
    assert f"| mean without ConvNetD1W4 | {facts['scores'][1]['accuracy']:.1f} | |" in said
    code, _, error = command("measure", tmp_path / "few.safetensors", "beauty")
    assert (code, "unknown measure 'beauty'. Known: transfer, continual, " in error) == (2, True)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"network": "ConvNetD1W4", "teacher": {"network": "MLP"}}, "ConvNetD1W4"),
        ({"labels": "soft", "teacher": {"network": "MLP"}}, "MLP"),
        ({"labels": "hard", "teacher": {"network": "MLP"}}, None),
        ({"labels": "soft", "teacher": {"network": "MLP"}, "selection": {"network": "ConvNetD1W4"}}, "ConvNetD1W4"),
        ({"teacher": {"network": "MLP"}, "scores": "own.safetensors"}, None),
        ({"teacher": {"network": "MLP"}, "scores": ""}, "MLP"),
        ({"labels": "hard", "teacher": {"network": "MLP"}, "bn_weight": 0.1}, "MLP"),
        ({"labels": "hard", "teacher": {"network": "MLP"}, "crops": 5}, "MLP"),
        (
            {"labels": "soft", "teacher": {"network": "MLP"}, "selection": {"teacher": {"network": "ConvNetD1W4"}}},
            "ConvNetD1W4",
        ),
        ({"network": "Unknown", "teacher": {"network": "MLP"}}, "MLP"),
        ({}, None),
    ],
)
def test_the_network_that_a_set_was_made_with_is_one_that_was_there(few, recipe, expected):
    assert MODULE._made_with(few.card.model_copy(update={"recipe": recipe}), (1, 8, 8)) == expected
