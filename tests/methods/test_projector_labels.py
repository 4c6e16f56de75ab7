"""HeLlO and its line: the images of others, with a projector's labels, which no other recipe speaks of."""

from types import SimpleNamespace

import pytest
import torch

from distill_bench import evaluate, synthesize
from distill_bench.evaluation import PROTOCOLS
from distill_bench.methods import load_method
from distill_bench.methods.recipe import TEST
from distill_bench.methods.selection import relabelled
from distill_bench.networks.encoders import ExternalEncoder


@pytest.fixture(scope="module")
def sets(digits):
    return {name: synthesize(digits, name, 1, TEST) for name in ("hello", "random-projector")}


def test_images_are_those_of_rded_and_of_random_and_labels_are_the_same(sets, digits):
    hello, random = sets["hello"], sets["random-projector"]
    assert torch.equal(hello.images, synthesize(digits, "rded", 1, TEST).images)
    assert torch.equal(random.images, synthesize(digits, "random", 1).images)
    assert hello.stored.keys() == random.stored.keys()
    assert all(torch.equal(each, random.stored[name]) for name, each in hello.stored.items())


@pytest.mark.parametrize("method", ["random-soft", "rded", "sre2l", "cda", "random-top2"])
@pytest.mark.parametrize("preset", ["paper", "cpu"])
def test_other_labels_do_not_speak_of_projectors(method, preset):
    assert "projector" not in load_method(method).config("digits", 1, preset).model_dump()


@pytest.mark.usefixtures("global_rng_untouched")
def test_its_score_says_so_and_comes_out_the_same_twice(sets, digits, monkeypatch):
    brief = {"epochs": 2, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", PROTOCOLS["quick-v1"].model_copy(update=brief))
    made = sets["hello"]
    first, second = (evaluate(made, digits, "quick-v1", networks=1) for _ in range(2))
    assert first.accuracies == second.accuracies and first.bytes == made.nbytes
    assert (first.labels, first.requires) == ("projector", ()) and made.has_strict_score
    assert "requires" not in first.model_dump()
    assert evaluate(made, digits, "quick-v1", networks=1, labels="hard").labels == "hard"


@pytest.mark.parametrize(
    ("method", "fields"),
    [("random-soft", {"labels": "hard"}), ("random-projector", {"projector": {"encoder": "efficientnet-lite0"}})],
)
def test_no_teacher_is_trained_that_labels_nothing(digits, monkeypatch, method, fields):
    given = []
    monkeypatch.setattr(ExternalEncoder, "missing", None)
    monkeypatch.setattr(relabelled, "teacher_of", lambda *_: pytest.fail("trained a teacher"))
    monkeypatch.setattr(relabelled, "with_projector", lambda run, teacher, made: given.append(teacher) or made)
    made = synthesize(digits, method, 1, TEST, **fields)
    assert torch.equal(made.images, synthesize(digits, "random", 1).images)
    assert given == ([] if method == "random-soft" else [None])
    config = load_method(method).config("digits", 1, TEST, **fields)
    run = SimpleNamespace(config=config)
    monkeypatch.setattr(relabelled, "weak_teachers_piece", lambda run: "weak")
    assert relabelled._pieces(run) == ([] if method == "random-soft" else ["weak"])
