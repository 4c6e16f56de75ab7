"""Steps of so many images of every class, and DSA with some of its operations."""

import pytest
import torch

from distill_bench import DistilledSet, UsageError, evaluate
from distill_bench.distilled.card import Card
from distill_bench.evaluation import Protocol, scoring
from distill_bench.evaluation.labels import balanced_batches
from distill_bench.evaluation.protocol import PROTOCOLS
from distill_bench.runtime.seeds import generator

LABELS = torch.tensor([2, 0, 1, 2, 0, 2, 1, 2])


def rows(epoch, indices, draws):
    return indices, LABELS[indices]


@pytest.mark.parametrize(("images", "classes", "counts"), [(1, 0, [1, 1, 1]), (3, 0, [2, 2, 3]), (2, 2, None)])
def test_every_step_has_so_many_images_of_every_class_or_of_random_classes(images, classes, counts):
    batches, draws, seen = balanced_batches(rows, LABELS, images, classes), generator("steps"), []
    for epoch in range(200):
        indices, labels = batches(epoch, torch.arange(8), draws)
        assert len(indices.unique()) == len(indices)
        found = labels.bincount(minlength=3).tolist()
        assert found == counts if counts else sorted(found) == [0, 2, 2]
        seen += indices.tolist()
    assert set(seen) == set(range(8))
    if images == 1:  # an image of a larger class is drawn as often as there are more of it less
        for row, size in enumerate([4, 2, 2, 4, 2, 4, 2, 4]):
            assert seen.count(row) / 200 == pytest.approx(1 / size, abs=0.12)


def test_a_protocol_with_the_mirror_alone_is_refused_where_images_may_not_be_mirrored(digits, monkeypatch):
    own = Protocol(id="mirrors", source="test", epochs=1, dsa_operations=("flip",), network="MLP")
    monkeypatch.setitem(PROTOCOLS, "mirrors", own)
    one = DistilledSet.from_tensors(torch.zeros(10, 1, 8, 8), torch.arange(10), digits)
    with pytest.raises(UsageError, match=r"mirrors mirrors images .* or mirrors\+no-augmentation"):
        evaluate(one, digits, "mirrors", networks=1)


@pytest.mark.parametrize("kind", ["recorded", "distances"])
def test_labels_of_recorded_batches_are_no_labels_of_balanced_steps(digits, monkeypatch, kind):
    own = Protocol(id="few", source="test", epochs=1, network="MLP", overrides={"digits": {"images_per_class": 1}})
    monkeypatch.setitem(PROTOCOLS, "few", own)
    one = DistilledSet.from_tensors(torch.zeros(10, 1, 8, 8), torch.arange(10), digits)
    monkeypatch.setattr(Card, "trained_kind", kind)
    with pytest.raises(UsageError, match="few takes 1 images of every class a step, and labels here are of recorded"):
        evaluate(one, digits, "few", networks=1)


def test_steps_of_an_evaluation_are_balanced(digits, monkeypatch):
    own = Protocol(id="few", source="test", epochs=3, batch_size=100, images_per_class=1, classes_per_step=4,
                   network="ConvNetD1W4", dsa_operations=("rotate",))  # fmt: skip
    monkeypatch.setitem(PROTOCOLS, "few", own)
    made = DistilledSet.from_tensors(torch.randn(30, 1, 8, 8, generator=generator("x")), torch.arange(30) % 10, digits)
    seen = []
    monkeypatch.setattr(
        scoring,
        "train",
        lambda net, batches, count, plan, draws, *_, **__: seen.extend(
            batches(epoch, torch.randperm(count, generator=draws), draws) for epoch in range(plan.epochs)
        ),
    )
    evaluate(made, digits, "few", networks=1)
    assert [sorted(labels.bincount(minlength=10).tolist()) for _, labels in seen] == [[0] * 6 + [1] * 4] * 3
