"""What the content addresses of sets and scores depend on: all that their files depend on, and nothing else."""

import dataclasses

import pytest

from distill_bench import Dataset, load_dataset, synthesize
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.evaluation import cache, load_protocol, score_key
from distill_bench.methods import load_method, synthesis_key
from distill_bench.methods.recipe import PAPER

VALUES = {"iterations": 1, "real_batch": 8, "network": "ConvNetD1W4"}


def altered(source: Dataset, **facts) -> Dataset:
    """The same pixels under other facts."""
    changed = dataclasses.replace(source, **facts)
    changed._cache.update(train=source.train, test=source.test)
    return changed


FACTS = {
    "a name": {"name": "npz:digits.npz"},
    "a size": {"size": 8},
    "a holdout": {"holdout": 0.5},
    "class names": {"class_names": tuple("abcdefghij")},
    "mean and std": {"constants": ((0.5,), (0.25,))},
    "flips": {"flip_invariant": True},
}
RECIPE = {"a paper": {"paper": "another"}, "a protocol": {"protocol": "dc-v1"}}


def address(source, method, preset=PAPER, ipc=1, seed=0, **values):
    fields = method.config("digits", ipc, preset, **VALUES | values)
    return synthesis_key(source, method, fields, Budget(ipc), preset, seed)


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_equal_pixels_under_other_facts_are_another_set(digits, facts):
    dm = load_method("dm")
    assert address(altered(digits), dm) == address(digits, dm)
    assert address(altered(digits, **facts), dm) != address(digits, dm)


@pytest.mark.parametrize("change", RECIPE.values(), ids=RECIPE)
def test_what_a_recipe_writes_into_the_card_is_part_of_the_address(digits, change):
    dm = load_method("dm")
    other = dataclasses.replace(dm, recipe=dm.recipe.model_copy(update=change))
    assert address(digits, other) != address(digits, dm)


def test_so_are_preset_hyper_parameters_ipc_seed_and_the_functions_version(digits, monkeypatch):
    dm = load_method("dm")
    keys = [address(digits, dm), address(digits, dm, ipc=2), address(digits, dm, seed=1), address(digits, dm, "cpu")]
    keys += [address(digits, dm, real_batch=9), address(digits, dataclasses.replace(dm, code="0"))]
    monkeypatch.setattr(dm.function, "version", 2)
    keys.append(address(digits, dm))
    assert len(set(keys)) == len(keys)


def test_what_does_not_reach_the_file_is_not(digits):
    dm = load_method("dm")
    retitled = dataclasses.replace(dm, recipe=dm.recipe.model_copy(update={"title": "another", "preset": {}}))
    assert address(digits, retitled) == address(digits, dm)
    untested = altered(digits, load_test=lambda: pytest.fail("read the test split"))
    untested._cache.pop("test")
    assert address(untested, dm) == address(digits, dm)


@pytest.mark.parametrize("facts", [{}, *FACTS.values()], ids=["as it is", *FACTS])
def test_the_address_has_the_card_that_is_written(digits, facts, monkeypatch):
    source, seen = altered(digits, **facts), []
    monkeypatch.setattr("distill_bench.methods.address.canonical_hash", lambda content: seen.append(content) or "")
    address(source, load_method("dm"))
    assert seen[0]["card"] == synthesize(source, "dm", 1, **VALUES).card.model_dump(mode="json")


@pytest.mark.parametrize("facts", [FACTS[name] for name in ("a name", "a size", "a holdout", "flips")])
def test_scores_on_other_facts_are_other_scores(digits, facts):
    made = synthesize(digits, "random", 1)
    for distilled in (made, None):
        protocol = "full-v1" if distilled is None else "quick-v1"
        assert score_key(altered(digits, **facts), protocol, distilled) != score_key(digits, protocol, distilled)


@pytest.mark.parametrize("facts", [FACTS[name] for name in ("mean and std",)])
def test_the_reference_line_is_normalised_with_the_sources_own_statistics(digits, facts):
    made, other = synthesize(digits, "random", 1), altered(digits, **facts)
    assert score_key(other, "full-v1", None) != score_key(digits, "full-v1", None)
    assert score_key(other, "quick-v1", made) == score_key(digits, "quick-v1", made)


def test_scores_of_another_set_protocol_network_or_evaluator(digits, monkeypatch):
    made, other = (synthesize(digits, "random", 1, seed=seed) for seed in (0, 1))
    keys = [score_key(digits, "quick-v1", made), score_key(digits, "quick-v1", other)]
    keys += [score_key(digits, "standard-v1", made), score_key(digits, "quick-v1", made, network="ConvNetD1")]
    keys += [score_key(load_dataset("digits", holdout=0.2), "quick-v1", made)]
    monkeypatch.setattr(cache, "EVALUATOR_VERSION", 2)
    keys.append(score_key(digits, "quick-v1", made))
    assert len(set(keys)) == len(keys)


def test_equal_evaluations_have_one_address(digits):
    made = synthesize(digits, "random", 1)
    key = score_key(digits, "quick-v1", made)
    assert load_protocol("quick-v1").network == "ConvNet"
    assert score_key(digits, "quick-v1", made, network="ConvNetD2W64") == key
    assert score_key(digits, "quick-v1", made, "hard") == key
    made.learning_rate = 0.02
    assert score_key(digits, "quick-v1", made, "hard") != score_key(digits, "quick-v1", made)


@pytest.mark.parametrize("seed", [-1, 1 << 63, 10**20])
def test_a_seed_that_no_result_can_hold_is_refused_before_work(digits, seed):
    with pytest.raises(UsageError, match=f"`seed={seed}`: give a whole number from 0 to 2⁶³ - 1"):
        synthesize(digits, "random", 1, seed=seed)
