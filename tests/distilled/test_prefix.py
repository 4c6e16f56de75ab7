"""The first images of every class of a set that was made in blocks, as a set."""

import json

import pytest
import torch
from short_protocol import short_protocol

from distill_bench import DataError, DistilledSet, UsageError, evaluate, load_distilled
from distill_bench.runtime.seeds import generator

LABELS = torch.arange(10).repeat_interleave(3)
IMAGES = torch.randn(30, 1, 8, 8, generator=generator("images"))
WEIGHTS = torch.rand(30, 10, generator=generator("weights"))


@pytest.fixture
def blocks(digits):
    given = {"soft_labels": WEIGHTS, "label_kind": "weights", "learning_rate": 0.02, "prefixes": (1, 2)}
    return DistilledSet.from_tensors(IMAGES, LABELS, digits, **given)


@pytest.mark.parametrize("ipc", [1, 2])
def test_a_prefix_has_the_first_images_of_every_class_with_their_labels_and_the_rate(blocks, ipc, tmp_path):
    rows = [3 * label + k for label in range(10) for k in range(ipc)]
    part = blocks.prefix(ipc)
    assert torch.equal(part.images, IMAGES[rows]) and torch.equal(part.labels, LABELS[rows])
    assert torch.equal(part.soft_labels, WEIGHTS[rows]) and part.learning_rate == 0.02
    assert (part.card.ipc, part.card.prefix_of, part.card.prefixes) == (ipc, 3, (1, 2)[: ipc - 1])
    part.save(tmp_path / "part.safetensors")
    assert load_distilled(tmp_path / "part.safetensors").to_bytes() == part.to_bytes()


def test_images_of_a_class_need_not_stand_together(digits):
    order = torch.randperm(30, generator=generator("order"))
    mixed = DistilledSet.from_tensors(IMAGES[order], LABELS[order], digits, prefixes=(1,))
    part = mixed.prefix(1)
    assert sorted(part.labels.tolist()) == list(range(10))
    for image, label in zip(part.images, part.labels, strict=True):
        first = next(row for row in order.tolist() if LABELS[row] == label)
        assert torch.equal(image, IMAGES[first])


def test_a_prefix_of_a_prefix_is_of_the_whole(blocks):
    assert blocks.prefix(2).prefix(1).card.prefix_of == 3


def test_an_evaluation_says_that_it_is_of_a_part(blocks, digits, tmp_path):
    result = evaluate(blocks.prefix(2), digits, str(tmp_path / short_protocol(tmp_path)))
    assert "the first 2 of 3 images per class of a set" in result.notes and result.ipc == 2


def test_the_command_evaluates_a_prefix(blocks, command, tmp_path):
    blocks.save(tmp_path / "set.safetensors")
    rest = ("--protocol", tmp_path / short_protocol(tmp_path), "--json")
    code, said, _ = command("evaluate", tmp_path / "set.safetensors", "--prefix", 1, *rest)
    found = json.loads(said)
    assert (code, found["ipc"], found["images"], found["set_sha256"]) == (0, 1, 10, blocks.prefix(1).sha256)
    code, _, said = command("evaluate", tmp_path / "set.safetensors", "--prefix", 7, *rest)
    assert code == 2 and "--prefix 7: the first images per class are a set" in said
    code, _, said = command("evaluate", "--protocol", "full-v1", "--dataset", "digits", "--prefix", 1)
    assert code == 2 and "--prefix" in said


@pytest.mark.parametrize("ipc", [0, 3, 4])
def test_others_are_refused_with_those_there_are(blocks, ipc):
    with pytest.raises(UsageError, match=f"`prefix={ipc}`: .* of this set they are its first 1, 2"):
        blocks.prefix(ipc)


@pytest.mark.parametrize("prefixes", [(2, 1), (1, 1), (3,)])
def test_a_card_whose_prefixes_cannot_be_is_refused(digits, prefixes):
    with pytest.raises(DataError, match="they must rise, and be below the images per class"):
        DistilledSet.from_tensors(IMAGES, LABELS, digits, prefixes=prefixes)


def test_a_set_without_prefixes_has_the_bytes_it_had(digits):
    plain = DistilledSet.from_tensors(IMAGES, LABELS, digits)
    assert not {"prefixes", "prefix_of"} & json.loads(plain.card.model_dump_json()).keys()
