"""The file a set is kept in: exact, deterministic, and refused with a reason where anything is wrong with it."""

import json
import pickle
import random
import struct
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save as save_tensors

from distill_bench.datasets import Dataset, Split
from distill_bench.datasets.pixel_space import PixelSpace, Transform, pixel_space_of
from distill_bench.distilled.card import TARGETS, Card
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.render import render_grid, render_pixels
from distill_bench.errors import DataError
from distill_bench.runtime.seeds import generator

CLASSES, IPC = 10, 2
LABELS = torch.arange(CLASSES).repeat_interleave(IPC)


@pytest.fixture
def unchecked_types():
    """As outside the tests, where no type checker looks before the set's own checks do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def images_of(dtype=torch.float32):
    images = torch.randn(CLASSES * IPC, 1, 8, 8, generator=generator("images"))
    return (images * 40 + 128).clamp(0, 255).to(dtype) if dtype == torch.uint8 else images.to(dtype)


def soft_labels():
    return torch.randn(CLASSES * IPC, CLASSES, generator=generator("soft"))


def stored():
    return {"teacher.bias": torch.randn(7), "relabel.boxes": torch.arange(12, dtype=torch.int16).view(3, 4)}


VARIANTS = {
    "float32": {},
    "float16": {"images": images_of(torch.float16)},
    "uint8": {"images": images_of(torch.uint8), "pixel_space": "unit"},
    "logits": {"soft_labels": soft_labels(), "label_kind": "logits", "temperature": 20.0},
    "probabilities": {"soft_labels": soft_labels().softmax(dim=1).half(), "label_kind": "probabilities"},
    "weights": {"soft_labels": 3 * soft_labels().softmax(dim=1), "label_kind": "weights"},
    "learned rate": {"learning_rate": 0.1 + 0.2},
    "stored tensors": {"stored": stored()},
    "zca": {"pixel_space": "zca"},
    "targets": {"stored": {TARGETS: torch.randn(CLASSES * IPC, 3)}, "label_kind": "targets"},
}


def make(source, images=None, stored=None, label_kind=None, **options):
    kind = None if label_kind == "targets" else label_kind  # from_tensors takes no stored tensors
    given = images_of() if images is None else images
    made = DistilledSet.from_tensors(given, LABELS, source, label_kind=kind, **options)
    parts = {"soft_labels": made.soft_labels, "learning_rate": made.learning_rate}
    card = made.card.model_copy(update={"label_kind": label_kind} if label_kind == "targets" else {})
    return made if stored is None else DistilledSet(made.images, made.labels, card, stored=stored, **parts)


@pytest.fixture
def plain(digits):
    return make(digits, recipe={"b": 1, "a": [0.5, "x", None]}, paper="a paper", seed=3, licence="CC0")


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_a_set_is_read_as_it_was_written(digits, tmp_path, options):
    made = make(digits, **options)
    made.save(tmp_path / "made.safetensors")
    read = load_distilled(tmp_path / "made.safetensors")
    assert read.card == made.card
    assert read.learning_rate == made.learning_rate == options.get("learning_rate")
    assert read.tensors.keys() == made.tensors.keys()
    assert read.stored.keys() == made.stored.keys() == options.get("stored", {}).keys()
    for name, tensor in made.tensors.items():
        assert read.tensors[name].dtype == tensor.dtype and torch.equal(read.tensors[name], tensor), name
    assert read.sha256 == made.sha256
    assert read.to_bytes() == made.to_bytes() == (tmp_path / "made.safetensors").read_bytes()


def test_equal_content_has_equal_bytes_whatever_the_order_it_came_in(digits):
    tensors = stored()
    first = make(digits, stored=tensors, recipe={"a": 1, "b": {"c": 2, "d": 3}})
    again = make(digits, stored=dict(reversed(tensors.items())), recipe={"b": {"d": 3, "c": 2}, "a": 1})
    assert len({first.to_bytes(), again.to_bytes(), *(first.to_bytes() for _ in range(20))}) == 1
    assert first.sha256 == again.sha256


def test_any_other_content_has_another_hash(digits, plain):
    changed = images_of()
    changed[0, 0, 0, 0] = torch.nextafter(changed[0, 0, 0, 0], torch.tensor(9.0))
    others = [make(digits, images=changed), make(digits, seed=1), *(make(digits, **o) for o in VARIANTS.values())]
    assert len({made.sha256 for made in (plain, *others)}) == len(others) + 1


def header(data):
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def test_the_card_is_one_sorted_json_text_under_one_key(plain):
    metadata = header(plain.to_bytes())["__metadata__"]
    assert list(metadata) == ["distill_bench"]
    card = json.loads(metadata["distill_bench"])
    assert metadata["distill_bench"] == json.dumps(card, sort_keys=True, separators=(",", ":"))
    assert (card["format_version"], card["ipc"], card["recipe"]) == (1, IPC, {"b": 1, "a": [0.5, "x", None]})


def test_the_card_is_filled_from_the_source(digits):
    card = make(digits).card
    assert (card.source.name, card.source.size, card.source.holdout) == ("digits", None, None)
    assert card.source.train_fingerprint == digits.train.fingerprint
    assert card.class_names == tuple("0123456789")
    assert (card.ipc, card.method, card.label_kind, card.protocol) == (IPC, "custom", "hard", "standard-v1")
    assert card.pixel_space == PixelSpace(kind="normalized", mean=digits.mean, std=digits.std)
    held = digits.with_holdout(0.25)
    assert make(held).card.source.holdout == 0.25
    assert make(held).card.source.train_fingerprint != digits.train.fingerprint
    assert make(digits, soft_labels=soft_labels()).card.label_kind == "logits"
    assert make(digits, protocol="dc-v1", ipc=7).card.model_dump()["protocol"] == "dc-v1"


def test_from_tensors_takes_tensors_with_gradients_and_strides(digits, tmp_path):
    images = torch.randn(20, 8, 8, 1).permute(0, 3, 1, 2).requires_grad_()
    made = DistilledSet.from_tensors(images * 2, LABELS, digits, soft_labels=soft_labels().mT.contiguous().mT)
    made.save(tmp_path / "made.safetensors")
    assert torch.equal(load_distilled(tmp_path / "made.safetensors").images, images.detach() * 2)
    assert not made.images.requires_grad


def test_storage_by_arithmetic(digits):
    pixels, labels = 20 * 64, 20 * 8
    assert make(digits).nbytes == 4 * pixels + labels
    assert make(digits, images=images_of(torch.float16)).nbytes == 2 * pixels + labels
    assert make(digits, images=images_of(torch.uint8)).nbytes == pixels + labels
    assert make(digits, soft_labels=soft_labels()).nbytes == 4 * pixels + labels + 4 * 20 * 10
    assert make(digits, stored=stored()).nbytes == 4 * pixels + labels + 7 * 4 + 12 * 2


def test_a_torch_dataset_gives_images_with_labels(plain):
    dataset = plain.to_dataset()
    assert len(dataset) == 20
    for index in (0, 7, 19):
        image, label = dataset[index]
        assert torch.equal(image, plain.images[index]) and label == index // IPC


@pytest.mark.parametrize("kind", ["logits", "probabilities", "weights"])
def test_a_torch_dataset_gives_soft_labels_where_there_are_some(digits, kind):
    made = make(digits, **VARIANTS[kind])
    assert torch.equal(made.to_dataset()[3][1], made.soft_labels[3])


def test_a_torch_dataset_gives_targets_where_there_are_some(digits):
    made = make(digits, **VARIANTS["targets"])
    assert torch.equal(made.to_dataset()[3][1], made.stored[TARGETS][3])
    assert made.nbytes == make(digits).nbytes + 20 * 3 * 4 and made.has_strict_score


# ---- what is refused


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("shape", [(20,), (20, 64), (20, 8, 8), (20, 1, 1, 8, 8)])
def test_tensors_of_another_shape_are_no_images(digits, shape):
    with pytest.raises(DataError, match=r"shape \(number, channels, height, width\)"):
        DistilledSet.from_tensors(torch.zeros(shape), LABELS, digits)


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        (lambda p: p, True),
        (lambda p: p.half(), True),
        (lambda p: p * 1.0005, True),
        (lambda p: p * 1.01, False),
        (lambda p: p * 0.99, False),
        (lambda p: p + torch.tensor([0.5, -0.5] + [0.0] * 8), False),
        (lambda p: p.log(), False),
    ],
)
def test_probabilities_are_positive_and_sum_to_one(digits, change, fine):
    given = {"soft_labels": change(soft_labels().softmax(dim=1)), "label_kind": "probabilities"}
    if fine:
        make(digits, **given)
        return
    with pytest.raises(DataError, match="must be 0 or more and sum to 1; logits have label_kind 'logits'"):
        make(digits, **given)
    make(digits, soft_labels=given["soft_labels"], label_kind="logits")


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        (lambda p: 7 * p, True),
        (lambda p: (p - 0.2).clamp(min=0), True),  # some images weigh nothing
        (lambda p: p - 0.2, False),
        (lambda p: 0 * p, False),
        (lambda p: p.log(), False),
    ],
)
def test_weights_are_positive_and_have_any_sum(digits, change, fine):
    given = {"soft_labels": change(soft_labels().softmax(dim=1)), "label_kind": "weights"}
    if fine:
        assert make(digits, **given).card.trained_kind == "weights"
        return
    with pytest.raises(DataError, match=r"weights, and go from .* must be 0 or more, and not all 0"):
        make(digits, **given)


def write(path, tensors, card):
    text = card if isinstance(card, str) else json.dumps(card)
    path.write_bytes(save_tensors(tensors, metadata={"distill_bench": text}))


def soft(change):
    """Soft labels, with ``change`` made to the tensor."""
    return lambda tensors, card: (tensors | {"soft_labels": change(soft_labels())}, card | {"label_kind": "logits"})


def tensor(name, change):
    return lambda tensors, card: (tensors | {name: change(tensors[name].clone())}, card)


def rate(value, dtype=torch.float64):
    return lambda tensors, card: (tensors | {"learning_rate": torch.tensor(value, dtype=dtype)}, card)


def card_with(**changes):
    return lambda tensors, card: (tensors, card | changes)


def space_with(**changes):
    return lambda tensors, card: (tensors, card | {"pixel_space": card["pixel_space"] | changes})


def targets(tensor, kind="targets"):
    return lambda tensors, card: (tensors | {TARGETS: tensor}, card | {"label_kind": kind})


def put(place, value):
    def change(tensor):
        tensor[place] = value
        return tensor

    return change


WRONG = {
    "images of three dimensions": (tensor("images", lambda t: t[:, 0]), r"\(20, 8, 8\); they must be .*\(number, ch"),
    "no image": (tensor("images", lambda t: t[:0]), r"shape \(0, 1, 8, 8\)"),
    "images of no size": (tensor("images", lambda t: t[:, :, :0]), r"shape \(20, 1, 0, 8\)"),
    "float64 images": (tensor("images", lambda t: t.double()), "torch.float64 .* float32, float16 or uint8"),
    "a NaN": (tensor("images", put((3, 0, 0, 0), float("nan"))), "1 image values are NaN or infinite"),
    "an infinity": (tensor("images", put((3, 0), float("-inf"))), "64 image values are NaN or infinite"),
    "a label short": (tensor("labels", lambda t: t[:-1]), r"torch.int64 \(19,\); they must be int64 \(20,\)"),
    "int32 labels": (tensor("labels", lambda t: t.int()), r"torch.int32 .* must be int64"),
    "labels in a column": (tensor("labels", lambda t: t[:, None]), r"\(20, 1\); they must be int64 \(20,\)"),
    "a label too large": (tensor("labels", put(0, 10)), "labels run from 0 to 10; 10 classes allow 0 to 9"),
    "a label below zero": (tensor("labels", put(5, -1)), "labels run from -1 to 9"),
    "soft labels called hard": (
        lambda tensors, card: (tensors | {"soft_labels": soft_labels()}, card),
        "label_kind is 'hard', soft labels: yes",
    ),
    "logits without any": (card_with(label_kind="logits"), "label_kind is 'logits', soft labels: no"),
    "soft labels of other classes": (soft(lambda t: t[:, :9].clone()), r"\(20, 9\); .* finite floats \(20, 10\)"),
    "soft labels of fewer images": (soft(lambda t: t[:5].clone()), r"\(5, 10\); they must be"),
    "whole-number soft labels": (soft(lambda t: t.long()), r"torch.int64 .*; they must be finite floats"),
    "a soft label NaN": (soft(put((0, 0), float("nan"))), "must be finite floats"),
    "rate zero": (rate(0.0), "learning rate is 0.0; it must be positive and finite"),
    "rate negative": (rate(-0.01), "learning rate is -0.01; it must be positive"),
    "rate infinite": (rate(float("inf")), "learning rate is inf"),
    "rate NaN": (rate(float("nan")), "learning rate is nan"),
    "two rates": (rate([0.1, 0.2]), r"learning_rate is torch.float64 of shape \(2,\); it is one floating"),
    "no images": (lambda tensors, card: ({"labels": tensors["labels"]}, card), "needs the tensors images and labels"),
    "no labels": (lambda tensors, card: ({"images": tensors["images"]}, card), "needs the tensors images and labels"),
    "an unknown tensor": (lambda tensors, card: (tensors | {"extra": torch.ones(1)}, card), "unknown tensors extra"),
    "another format": (card_with(format_version=2), "written in format 2; this version reads 1"),
    "another format with more on its card": (card_with(format_version=2, more=1), "written in format 2"),
    "an unknown field": (card_with(more=1), "card is invalid: more"),
    "an unknown pixel space": (space_with(kind="lab"), "card is invalid: pixel_space.kind"),
    "an unknown kind of label": (card_with(label_kind="fuzzy"), "card is invalid: label_kind"),
    "no card text": (lambda tensors, card: (tensors, "{"), "card is invalid"),
    "other channels": (space_with(mean=[0.1, 0.2], std=[1.0, 1.0]), "the pixel space has 2 channels, images 1"),
    "fewer deviations than means": (space_with(std=[1.0, 1.0]), "pixel.space"),
    "a deviation of zero": (space_with(std=[0.0]), "pixel.space"),
    "whitening without eps": (space_with(kind="zca", eps=None), "pixel.space"),
    "targets missing": (card_with(label_kind="targets"), "'targets' and the tensor target.features is missing"),
    "targets of a set with classes": (targets(torch.ones(20, 3), "hard"), "'hard' and the tensor .* is stored"),
    "targets of fewer images": (targets(torch.ones(19, 3)), r"\(19, 3\); they must be float32 \(20, features\)"),
    "targets in float64": (targets(torch.ones(20, 3).double()), r"torch.float64 .* must be float32 \(20, features\)"),
    "targets of no features": (targets(torch.ones(20, 0)), r"\(20, 0\); they must be float32"),
    "a number for targets": (targets(torch.ones(20)), r"\(20,\); they must be float32"),
    "a target NaN": (targets(put((3, 1), float("nan"))(torch.ones(20, 3))), "1 values of target.features are NaN"),
    "temperature zero": (card_with(temperature=0.0), "temperature"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "rule"), WRONG.values(), ids=WRONG)
def test_a_file_that_contradicts_itself_is_refused_with_its_path_and_the_rule(plain, tmp_path, change, rule):
    path = tmp_path / "made.safetensors"
    tensors, card = plain.tensors, plain.card.model_dump(mode="json")
    write(path, tensors, card)
    assert load_distilled(path).sha256  # before the change it is fine
    write(path, *change(dict(tensors), card))
    with pytest.raises(DataError, match=rule) as error:
        load_distilled(path)
    assert str(path) in str(error.value) and error.value.exit_code == 3


@pytest.mark.usefixtures("unchecked_types")
def test_a_set_that_contradicts_itself_cannot_be_made(plain):
    with pytest.raises(DataError, match="labels run from 0 to 10"):
        DistilledSet(plain.images, torch.where(LABELS == 9, 10, LABELS), plain.card)
    with pytest.raises(DataError, match="learning rate is -1"):
        DistilledSet(plain.images, LABELS, plain.card, learning_rate=-1.0)


def test_tensors_with_a_label_below_zero_are_refused(digits):
    with pytest.raises(DataError, match="labels run from -1 to 8"):
        DistilledSet.from_tensors(images_of(), LABELS - 1, digits)


@pytest.mark.parametrize("name", ["extra", "images", "learning_rate"])
def test_a_stored_tensor_has_a_name_that_can_be_read_again(plain, name):
    with pytest.raises(DataError, match=name):
        DistilledSet(plain.images, LABELS, plain.card, stored={name: torch.ones(1)})


def test_a_set_of_strided_tensors_can_be_saved(plain, tmp_path):
    flipped = plain.images.transpose(2, 3)
    DistilledSet(flipped, LABELS, plain.card).save(tmp_path / "made.safetensors")
    assert torch.equal(load_distilled(tmp_path / "made.safetensors").images, flipped)


def test_a_card_cannot_be_changed(plain):
    with pytest.raises(ValidationError):
        plain.card.method = "another"


def refused(path, rule):
    with pytest.raises(DataError, match=rule) as error:
        load_distilled(path)
    assert str(path) in str(error.value)


def test_files_of_another_kind_are_refused(tmp_path):
    refused(tmp_path / "absent.safetensors", "no such file")
    refused(tmp_path, "not a readable safetensors file")
    for name, content in {"empty": b"", "text": b"hello, this is no set of tensors", "zeros": bytes(100)}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "not a readable safetensors file")
    (tmp_path / "tensors").write_bytes(save_tensors({"images": torch.ones(1), "labels": torch.ones(1)}))
    refused(tmp_path / "tensors", "has no card")


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_never_unpickled(tmp_path, plain):
    for number, save in enumerate((torch.save, lambda what, path: path.write_bytes(pickle.dumps(what)))):
        path = tmp_path / f"{number}.pt"
        save({"images": plain.images, "trap": Trap(tmp_path / "sprung")}, path)
        refused(path, "not a readable safetensors file")
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, plain):
    data, path = plain.to_bytes(), tmp_path / "made.safetensors"
    for length in [*range(0, 40), *range(40, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        refused(path, "not a readable safetensors file")


def test_a_flipped_bit_is_refused_or_makes_another_set(tmp_path, plain):
    data, path, choose = plain.to_bytes(), tmp_path / "made.safetensors", random.Random(0)
    (length,) = struct.unpack("<Q", data[:8])
    places = [*range(16), *(choose.randrange(8 + length) for _ in range(400)), *range(8 + length, len(data), 501)]
    outcomes = {"refused": 0, "another": 0}
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << choose.randrange(8)
        path.write_bytes(damaged)
        try:
            outcomes["another"] += load_distilled(path).sha256 != plain.sha256
        except DataError:
            outcomes["refused"] += 1
    assert sum(outcomes.values()) == len(places) and outcomes["refused"] > 200


# ---- pictures


def tiles(sheet, tile):
    """Where (row, column) the tile stands in the sheet, both uint8 [h, w, 3]."""
    height, width = tile.shape[:2]
    rows, columns = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
    corners = [(0, 0), (height - 1, width - 1), (height // 2, width // 2)]
    alike = [(sheet[y : y + rows, x : x + columns] == tile[y, x]).all(axis=2) for y, x in corners]
    places = np.argwhere(np.logical_and.reduce(alike))
    return [(y, x) for y, x in places.tolist() if (sheet[y : y + height, x : x + width] == tile).all()]


def check_picture(path, pixels, labels, scale):
    """Every image stands on the sheet once, in the order of the set from left to right, a row a class."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    places = []
    for image in pixels:
        tile = image.expand(3, -1, -1).permute(1, 2, 0).numpy().repeat(scale, axis=0).repeat(scale, axis=1)
        (place,) = tiles(sheet, tile)
        places.append(place)
    for label in range(int(labels.max()) + 1):
        row = [place for place, own in zip(places, labels.tolist(), strict=True) if own == label]
        assert len({y for y, _ in row}) == 1 and row == sorted(row)
    assert len({(y, x) for y, x in places}) == len(pixels)


SPACES = {
    "unit": ("unit", {}),
    "normalized": ("normalized", {}),
    "zca": ("zca", {}),
    "zca of normalized": ("zca", {"zca_input": "normalized"}),
}


@pytest.mark.parametrize("given", ["the source", "its name alone"])
@pytest.mark.parametrize(("kind", "options"), SPACES.values(), ids=SPACES)
def test_a_picture_of_real_images_shows_their_pixels_in_every_space(digits, tmp_path, kind, options, given):
    indices = torch.cat([own[:IPC] for own in digits.train.class_indices])
    pixels, space = digits.train.images(indices), pixel_space_of(digits, kind, **options)
    made = make(digits, images=Transform(space, digits.train).encode(pixels), pixel_space=space)
    source = digits if given == "the source" else None
    assert torch.equal(render_pixels(made, source), pixels)
    render_grid(made, tmp_path / "made.png", dataset=source)
    check_picture(tmp_path / "made.png", pixels, made.labels, scale=6)  # 8 px are shown as 48


def colourful():
    pixels = torch.randint(256, (12, 3, 48, 50), generator=generator("pixels"), dtype=torch.uint8)
    return Split(pixels, torch.arange(12) // 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_a_picture_in_colour_and_in_the_types_a_set_may_have(tmp_path, dtype):
    source = Dataset("made", ("a", "b", "c"), colourful, None, flip_invariant=True)
    pixels = source.train.images(torch.arange(12))
    images = pixels if dtype == torch.uint8 else (pixels.float() / 255).to(dtype)
    made = DistilledSet.from_tensors(images, source.train.labels, source, pixel_space="unit")
    render_grid(made, tmp_path / "made.png")
    check_picture(tmp_path / "made.png", pixels, made.labels, scale=1)


def test_a_picture_shows_no_more_columns_than_asked_for(tmp_path):
    source = Dataset("made", ("a", "b", "c"), colourful, None, flip_invariant=True)
    pixels = source.train.images(torch.arange(12))
    render_grid(DistilledSet.from_tensors(pixels, source.train.labels, source), tmp_path / "made.png", columns=2)
    shown = [0, 1, 4, 5, 8, 9]
    check_picture(tmp_path / "made.png", pixels[shown], source.train.labels[shown], scale=1)
    sheet = np.asarray(Image.open(tmp_path / "made.png"))
    assert tiles(sheet, pixels[2].permute(1, 2, 0).numpy()) == []


def test_values_beyond_black_and_white_are_clipped_in_pictures(digits):
    images = torch.tensor([-0.5, 1.5, 0.5]).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    made = DistilledSet.from_tensors(images, torch.arange(3), digits, pixel_space="unit")
    assert render_pixels(made)[:, 0, 0, 0].tolist() == [0, 255, 128]


def test_the_card_of_a_saved_set_is_all_that_reading_it_needs(plain):
    assert Card.model_validate_json(plain.card.model_dump_json()) == plain.card
