"""What makes a number untrustworthy stands beside it: on standard output, in JSON, in the score; --quiet or not."""

import dataclasses
import json
import re
import subprocess
import warnings

import numpy
import pytest
import torch

from distill_bench import DistilledSet, Split, UsageError, evaluate, load_dataset, load_distilled, synthesize
from distill_bench.benchmark import BenchConfig, SetCell, run_cells, tasks_of
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.errors import RunFailed
from distill_bench.evaluation import PROTOCOLS, scoring
from distill_bench.evaluation.measures import transfer
from distill_bench.methods import load_method
from distill_bench.runtime import device
from distill_bench.runtime.progress import StreamMonitor

NETWORK = "ConvNetD1W4"
HELD = "the test images were held out of a training split that the set was made from"
OTHER = "evaluated under quick-v1; the protocol on the set's card is dsa-v1"


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    for name in ("quick-v1", "dsa-v1", "standard-v1"):
        short = {"epochs": 1, "networks": 1, "network": NETWORK, "decay_after": None}
        monkeypatch.setitem(PROTOCOLS, name, PROTOCOLS[name].model_copy(update=short))


@pytest.fixture(scope="module")
def few(digits):
    return synthesize(digits, "random", ipc=2)


@pytest.fixture
def file(few, tmp_path):
    few.save(tmp_path / "few.safetensors")
    return tmp_path / "few.safetensors"


def blurred(few):
    """The same card, and images that are no pictures of the dataset."""
    return DistilledSet(few.images * 0.9 + 0.01, few.labels, few.card)


# ---- leaks


@pytest.mark.parametrize("made_with", [None, 0.3])
def test_a_set_is_not_tested_on_images_held_out_of_what_it_was_made_from(digits, made_with):
    made = blurred(synthesize(digits.with_holdout(made_with) if made_with else digits, "random", ipc=2))
    held = digits.with_holdout(0.2)
    with pytest.raises(UsageError, match=f"^{HELD}: .*`allow_leak=True`"):
        evaluate(made, held)
    with pytest.raises(UsageError, match=HELD):
        transfer(made, held, names=["MLP"])
    assert HELD in evaluate(made, held, allow_leak=True).notes
    assert HELD in transfer(made, held, names=["MLP"], allow_leak=True).notes
    assert evaluate(made, digits.with_holdout(made_with) if made_with else digits).notes == ()


def test_a_holdout_of_the_same_data_under_another_name_is_a_leak_too(digits, few, tmp_path):
    for name in ("here", "there"):
        arrays = {f"x_{part}": split.images(torch.arange(len(split))).numpy() for part, split in parts(digits)}
        arrays |= {f"y_{part}": split.labels.numpy() for part, split in parts(digits)}
        numpy.savez(tmp_path / f"{name}.npz", **arrays)
    here, there = (load_dataset(f"npz:{tmp_path / name}.npz") for name in ("here", "there"))
    made = blurred(synthesize(here, "random", ipc=1))
    with pytest.raises(UsageError, match=HELD):
        evaluate(made, there.with_holdout(0.2))
    assert evaluate(made, there).notes == ()


def parts(source):
    return (("train", source.train), ("test", source.test))


def test_a_test_split_that_the_set_was_made_from_is_a_leak(digits, few):
    swapped = dataclasses.replace(digits, load_train=lambda: digits.test, load_test=lambda: digits.train, _cache={})
    with pytest.raises(UsageError, match="the test images are the split that the set was made from"):
        evaluate(blurred(few), swapped)


@pytest.mark.parametrize("kind", ["uint8", "normalized", "unit", "zca", "float16"])
def test_test_images_in_a_set_are_found_pixel_for_pixel_in_every_space(digits, kind):
    from distill_bench.datasets.pixel_space import Transform

    chosen = torch.cat([(digits.test.labels == label).nonzero()[0] for label in range(10)])
    pixels = digits.test.images(chosen)
    space = pixel_space_of(digits, kind if kind in ("unit", "zca") else "normalized")
    images = pixels if kind == "uint8" else Transform(space, digits.train).encode(pixels)
    images = images.half() if kind == "float16" else images
    made = DistilledSet.from_tensors(images, torch.arange(10), digits, pixel_space=space)
    said = "10 of 10 images of the set are test images, pixel for pixel"
    assert said in evaluate(made, digits).notes


def test_an_image_that_the_dataset_has_in_both_splits_is_said_and_no_leak(digits, few):
    pixels = ((few.images * digits.std[0] + digits.mean[0]) * 255).round().to(torch.uint8)
    twice = dataclasses.replace(digits, load_test=lambda: Split(pixels, few.labels), _cache={})
    said = "20 of 20 images of the set are test images, pixel for pixel, and training images too"
    assert evaluate(few, twice).notes == (said,)


@pytest.mark.parametrize("words", [["evaluate"], ["measure"]], ids=lambda words: words[0])
def test_a_leak_ends_each_command_or_is_noted_on_standard_output(command, file, words):
    words = [*words, file, *(["transfer"] if words == ["measure"] else []), "--holdout", 0.2, "--network", NETWORK]
    code, said, error = command(*words, "--quiet")
    assert (code, said, HELD in error) == (2, "", True)
    code, said, error = command(*words, "--quiet", "--allow-leak")
    assert (code, f"note: {HELD}\n" in said, error) == (0, True, "")
    code, said, error = command(*words, "--quiet", "--allow-leak", "--json")
    assert (code, HELD in json.loads(said)["notes"], error) == (0, True, "")


def test_a_claim_that_leaks_is_verified_with_the_doubt_beside_it_alone(command, file, tmp_path):
    result = tmp_path / "result.json"
    options = ["--holdout", 0.2, "--allow-leak", "--json"]
    result.write_text(command("evaluate", file, *options)[1])
    code, said, error = command("verify", file, result, "--quiet")
    assert (code, said, HELD in error) == (2, "", True)
    code, said, _ = command("verify", file, result, "--quiet", "--allow-leak")
    assert (code, f"\nnote: {HELD}\n" in said) == (0, True)
    assert HELD in json.loads(command("verify", file, result, "--allow-leak", "--json")[1])["notes"]


# ---- protocols


@pytest.mark.parametrize("how", ["own", "imported"])
def test_the_protocol_is_the_cards_unless_another_is_named_and_the_output_says_which(command, few, file, how):
    if how == "imported":
        DistilledSet(few.images, few.labels, few.card.model_copy(update={"seed": None})).save(file)
    code, said, _ = command("evaluate", file, "--quiet")
    assert (code, "\nprotocol dsa-v1 (the card's), " in said, "note:" in said) == (0, True, False)
    code, said, _ = command("evaluate", file, "--quiet", "--protocol", "quick-v1")
    assert (code, "\nprotocol quick-v1, " in said, said.endswith(f"note: {OTHER}\n")) == (0, True, True)
    code, said, _ = command("measure", file, "transfer", "--network", "MLP", "--quiet")
    assert (code, "protocol dsa-v1 (the card's), " in said, "note:" in said) == (0, True, False)
    code, said, _ = command("measure", file, "transfer", "--network", "MLP", "--protocol", "quick-v1", "--json")
    assert (json.loads(said)["notes"], json.loads(said)["scores"][0]["notes"]) == ([OTHER], [OTHER])


def test_python_takes_the_cards_protocol_too(digits, few):
    assert (evaluate(few, digits).protocol, evaluate(few, digits).notes) == ("dsa-v1", ())
    assert (evaluate(few, digits, "quick-v1").protocol, evaluate(few, digits, "quick-v1").notes) == (
        "quick-v1",
        (OTHER,),
    )
    assert transfer(few, digits, names=["MLP"]).scores[0].protocol == "dsa-v1"
    later = DistilledSet(few.images, few.labels, few.card.model_copy(update={"protocol": "dsa-v9"}))
    with pytest.raises(UsageError, match="card names the protocol 'dsa-v9', which this version does not have"):
        evaluate(later, digits)
    assert evaluate(later, digits, "quick-v1").protocol == "quick-v1"


def test_a_suite_has_its_own_protocols_and_files_no_note_about_them(tmp_path):
    work = tasks_of(SetCell("digits", "random", 1, 0, "cpu", ("quick-v1",)), BenchConfig("mine", tmp_path / "results"))
    assert run_cells([work], "in-process", 1, StreamMonitor(quiet=True)) == 0
    content = json.loads(work.result_path("quick-v1").read_text())
    assert (content["protocol"], content["notes"]) == ("quick-v1", [])


# ---- the network the set was made with


@pytest.mark.parametrize("order", [["MLP", "ConvNetBN", "AlexNet"], ["AlexNet", "MLP", "ConvNetBN"]])
@pytest.mark.parametrize(
    ("recipe", "home"),
    [
        ({"network": "ConvNetBN"}, "ConvNetD2W64BN"),
        ({"network": "MLP"}, "MLP"),
        ({"teacher": {"network": "AlexNet"}}, "AlexNet"),
        ({"network": "ConvNetD1W8"}, "ConvNetD1W8"),
        ({}, NETWORK),
    ],
)
def test_the_mean_leaves_out_the_network_the_set_was_made_with_in_every_order(digits, few, order, recipe, home):
    made = DistilledSet(few.images, few.labels, few.card.model_copy(update={"recipe": recipe}))
    found = transfer(made, digits, "quick-v1", order, 1)
    others = [score.accuracy for score in found.scores if score.network != home]
    assert (found.home, found.made_with) == (home, home if recipe else None)
    assert found.mean_of_others == pytest.approx(sum(others) / len(others))
    assert found.model_dump()["mean_of_others"] == found.mean_of_others
    assert ("not measured" in found.about_home) == (home in ("ConvNetD1W8", NETWORK))


def test_the_table_names_the_network_that_the_mean_is_without(command, digits, few, tmp_path):
    made = DistilledSet(few.images, few.labels, few.card.model_copy(update={"recipe": {"network": "ConvNetBN"}}))
    made.save(tmp_path / "bn.safetensors")
    options = ["--network", "MLP", "--network", "ConvNetBN", "--quiet"]
    code, said, _ = command("measure", tmp_path / "bn.safetensors", "transfer", *options)
    score = evaluate(made, digits, network="MLP").accuracy
    assert (code, f"| mean without ConvNetD2W64BN | {score:.1f} | |" in said) == (0, True)
    assert "ConvNetD2W64BN is the network that the set was made with." in said
    assert "±" not in said  # of one network each


# ---- words


def test_one_network_has_no_spread(command, file):
    assert "±" not in command("evaluate", file, "--networks", 1)[1]
    first, *_ = command("evaluate", file, "--networks", 2)[1].splitlines()
    values = re.fullmatch(r".*: (.+) ± (.+) % \(95 % interval over 2 networks: (.+) to (.+); std (.+)\)", first)
    mean, half, low, high, std = map(float, values.groups())
    assert half == pytest.approx(max(mean - low, high - mean), abs=0.011) and half > 2 * std


@pytest.mark.parametrize("rate", [1e30, 3e4])
def test_a_learned_rate_that_diverges_names_the_strict_evaluation(command, few, file, rate):
    DistilledSet(few.images, few.labels, few.card, learning_rate=rate).save(file)
    PROTOCOLS["standard-v1"] = PROTOCOLS["standard-v1"].model_copy(update={"epochs": 20})
    words = ["evaluate", file, "--protocol", "standard-v1", "--network", "MLP"]
    code, said, error = command(*words)
    assert (code, said, "--labels hard" in error) == (1, "", True)
    assert command(*words, "--labels", "hard")[0] == 0


def test_a_network_whose_outputs_are_not_finite_has_no_accuracy(digits, few, monkeypatch):
    def spoil(network, *_, **__):
        with torch.no_grad():
            network.classifier.weight.fill_(torch.inf)

    # the package gives its name to the function
    monkeypatch.setattr(scoring, "train", spoil)
    with pytest.raises(RunFailed, match=r"network 0: training diverged: .* outputs for test images are not finite"):
        evaluate(few, digits)


UNKNOWN = r"unknown network .*Known: ConvNet, .*; your own: module:function"


@pytest.mark.parametrize("network", ["", "convnet", "ConvNetD3 "])
def test_a_name_that_is_no_network_is_refused_with_the_names(command, digits, few, file, network):
    with pytest.raises(UsageError, match=UNKNOWN):
        evaluate(few, digits, network=network)
    with pytest.raises(UsageError, match=UNKNOWN):
        transfer(few, digits, names=[network])
    code, _, error = command("evaluate", file, "--network", network)
    assert (code, f"unknown network {network!r}" in error) == (2, True)


def test_a_module_for_a_network_is_refused_with_the_names_too(forked_python):
    code = """
import torch
from distill_bench import UsageError, evaluate, load_dataset, synthesize
digits = load_dataset("digits")
made = synthesize(digits, "random", 1)
for network in (torch.nn.Linear(2, 2), torch.nn.Linear, 3):
    try:
        evaluate(made, digits, network=network)
    except UsageError as error:
        print(error)
"""
    # apart, where no argument's type is checked but by the package itself
    said = subprocess.run([forked_python, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = ("Linear", "type", "int")
    assert [line.split(": networks")[0] for line in said] == [f"unknown network {kind}" for kind in kinds]
    assert all("Known: ConvNet, " in line and "your own: module:function" in line for line in said)


def test_a_driver_that_torch_cannot_use_is_no_warning_among_progress_lines(monkeypatch):
    def no_driver():
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", UserWarning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", no_driver)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert device.resolve_device("auto").type == "cpu"
        with pytest.raises(UsageError, match="cuda is not available here"):
            device.resolve_device("cuda")
    assert seen == []


def test_any_other_warning_is_still_shown(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: warnings.warn("hot", UserWarning, stacklevel=1) or False)
    with pytest.warns(UserWarning, match="hot"):
        device.resolve_device("auto")


def test_a_stored_set_says_the_same_of_itself(digits, few, file):
    assert evaluate(load_distilled(file), digits, "quick-v1").notes == (OTHER,)


# ---- labels


def said_of(made, digits, **how):
    return [note for note in evaluate(made, digits, "quick-v1", **how).notes if "label" in note]


@pytest.mark.parametrize("kind", ["logits", "probabilities", "weights"])
@pytest.mark.parametrize("odd", [10, 11, 20])
def test_labels_of_other_classes_than_their_images_are_said_where_they_are_most(digits, few, kind, odd):
    classes = torch.cat([(few.labels[:odd] + 3) % 10, few.labels[odd:]])
    soft = torch.nn.functional.one_hot(classes, 10) * 0.6 + 0.04
    made = DistilledSet(few.images, few.labels, few.card.model_copy(update={"label_kind": kind}), soft_labels=soft)
    wanted = [] if odd == 10 else [f"the labels of {odd} of 20 images are largest for another class than the images'"]
    assert said_of(made, digits) == wanted
    assert said_of(made, digits, labels="hard") == []  # which are the images' own
    unasked = made.card.model_copy(update={"alpha": 0.0})
    if kind != "weights":
        assert said_of(DistilledSet(made.images, made.labels, unasked, soft_labels=soft), digits) == []


LABELLERS = {
    "teacher": ("random-soft", {"labels": "teacher"}, "teacher.classifier.weight"),
    "projector": ("random-projector", {}, "projector.prototypes"),
}


@pytest.mark.parametrize("kind", LABELLERS)
def test_stored_networks_are_asked_what_they_say_of_the_images(digits, kind):
    method, values, head = LABELLERS[kind]
    made = synthesize(digits, method, 2, "test", **values)
    assert said_of(made, digits) == []
    turned = made.stored | {head: made.stored[head].roll(1, dims=0)}
    (note,) = said_of(DistilledSet(made.images, made.labels, made.card, stored=turned), digits)
    assert re.fullmatch("the labels of (1[1-9]|20) of 20 images are largest for another class than the images'", note)


def test_a_projector_that_its_training_undid_says_so_when_made_and_beside_every_number(digits, caplog):
    values = load_method("random-projector").config("digits", 2, "test").projector.model_dump()
    made = synthesize(digits, "random-projector", 2, "test", projector=values | {"learning_rate": 1.0})
    card = made.card.projector
    assert card.accuracy < card.before - 10 and card.doubt in caplog.text
    assert card.doubt in said_of(made, digits)
