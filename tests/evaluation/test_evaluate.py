"""The evaluator: what it must learn and must not, that its networks are paired, and that it resumes where cut off."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from distill_bench.augmentations import dsa
from distill_bench.datasets import Split
from distill_bench.datasets.pixel_space import Transform, pixel_space_of
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import Interrupted, RunFailed, UsageError
from distill_bench.evaluation import (
    PROTOCOLS,
    Protocol,
    ScoreCache,
    evaluate,
    evaluate_full,
    load_protocol,
    networks_key,
    scoring,
)
from distill_bench.evaluation.setup import setup_evaluation
from distill_bench.evaluation.statistics import percent_interval
from distill_bench.runtime.progress import SILENT, SilentMonitor
from distill_bench.runtime.seeds import generator

NETWORK = "ConvNetD2W16"


@pytest.fixture(autouse=True)
def _quick_protocols(monkeypatch):
    """``learns``: enough to learn digits. ``brief``: a few steps. ``untrained``: steps too small to matter."""
    common = {"source": "a test", "network": NETWORK, "batch_size": 64}
    for protocol in (
        Protocol(id="learns", epochs=30, learning_rate=0.05, augmentation="none", networks=1, **common),
        Protocol(id="brief", epochs=3, learning_rate=0.05, networks=3, **common),
        Protocol(id="untrained", epochs=1, learning_rate=1e-12, networks=3, **common),
        Protocol(id="own rate", epochs=3, learning_rate=0.05, networks=2, use_learned_rate=False, **common),
        Protocol(id="whole", epochs=1, learning_rate=0.1, networks=1, trains_on="full", **common),
    ):
        monkeypatch.setitem(PROTOCOLS, protocol.id, protocol)


def real_set(source, ipc=10, **options):
    indices = torch.cat([own[:ipc] for own in source.train.class_indices])
    space = pixel_space_of(source, options.pop("kind", "normalized"))
    images = Transform(space, source.train).encode(source.train.images(indices))
    options = {"protocol": "brief", "pixel_space": space} | options
    return DistilledSet.from_tensors(images, source.train.labels[indices], source, **options)


def found(score):
    """What is the same whoever trained the networks, and when."""
    return score.model_dump(exclude={"run"})


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def few(digits):
    return real_set(digits)


def noise_set(source, ipc=10, seed=0, **options):
    labels = torch.arange(10).repeat_interleave(ipc)
    images = torch.randn(len(labels), *source.train.shape, generator=generator("noise", seed))
    return DistilledSet.from_tensors(images, labels, source, **options)


# ---- what it finds


def test_fifty_real_images_a_class_are_learnt(digits):
    score = evaluate(real_set(digits, 50), digits, "learns")
    assert min(score.accuracies) > 90


def test_noise_teaches_nothing(digits):
    score = evaluate(noise_set(digits, 50), digits, "learns")
    assert max(score.accuracies) < 30 and score.accuracy < 20


def test_real_images_with_the_wrong_labels_teach_the_wrong_thing(digits):
    right = real_set(digits, 50)
    wrong = DistilledSet(right.images, (right.labels + 1) % 10, right.card)
    assert max(evaluate(wrong, digits, "learns").accuracies) < 5


def test_the_score_says_what_was_done(digits, few):
    score = evaluate(few, digits, "brief")
    assert len(score.accuracies) == score.networks == 3
    assert score.accuracy == pytest.approx(np.mean(score.accuracies))
    assert score.std == pytest.approx(np.std(score.accuracies))
    assert (score.ci_low, score.ci_high) == percent_interval([score.accuracies])
    assert (score.dataset, score.method, score.ipc, score.protocol) == ("digits", "custom", 10, "brief")
    assert (score.network, score.labels, score.learning_rate, score.pixel_space) == (
        NETWORK,
        "hard",
        0.05,
        "normalized",
    )
    assert (score.bytes, score.set_sha256, score.notes) == (few.nbytes, few.sha256, ())
    assert score.train_fingerprint == digits.train.fingerprint
    assert score.test_fingerprint == digits.test.fingerprint
    assert all(0 <= a <= 100 and round(a * 3.59, 6) % 1 == 0 for a in score.accuracies)  # 359 test images


def test_without_a_source_it_is_the_one_on_the_card(digits, few):
    by_card, named = evaluate(few, protocol="brief", networks=1), evaluate(few, digits, "brief", networks=1)
    assert by_card.model_copy(update={"run": named.run}) == named  # but for the time it took
    held = digits.with_holdout(0.5)
    score = evaluate(real_set(held), protocol="brief", networks=1)
    assert score.test_fingerprint == held.test.fingerprint and score.notes == ()
    assert (score.size, score.holdout) == (None, 0.5)


# ---- paired networks


def test_networks_depend_on_the_dataset_protocol_and_number_alone(digits, few):
    twin = DistilledSet(few.images, few.labels, few.card.model_copy(update={"method": "dm", "seed": 9, "ipc": 30}))
    assert evaluate(few, digits, "brief").accuracies == evaluate(twin, digits, "brief").accuracies


def test_every_set_meets_the_same_initial_networks(digits, few):
    first = evaluate(few, digits, "untrained").accuracies
    other = noise_set(digits, ipc=3, learning_rate=1e-13)
    assert first == evaluate(other, digits, "untrained").accuracies
    assert len(set(first)) > 1  # and network 1 is not network 0 again


def test_a_network_of_another_number_trains_in_another_order(digits, few, monkeypatch):
    orders = []
    monkeypatch.setattr(
        scoring, "train", lambda net, fetch, targets, plan, draws, *_, **__: orders.append(draws.initial_seed())
    )
    evaluate(few, digits, "brief")
    evaluate(noise_set(digits), digits, "brief")
    assert orders[:3] == orders[3:] and len(set(orders)) == 3


def test_the_number_of_networks_changes_none_of_them(digits, few):
    assert (
        evaluate(few, digits, "brief", networks=5).accuracies[:2]
        == evaluate(few, digits, "brief", networks=2).accuracies
    )


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_global_generator_is_left_alone_and_its_seed_does_not_show(digits, few):
    state = torch.get_rng_state()
    first = evaluate(few, digits, "brief")
    torch.manual_seed(99)
    second = evaluate(few, digits, "brief")
    torch.set_rng_state(state)
    assert found(first) == found(second)


# ---- interruption


class StopsAfter(SilentMonitor):
    """Asks to stop when a number of epochs has passed. Is its own stage."""

    def __init__(self, epochs):
        self.stop_requested, self.left = False, epochs

    @contextmanager
    def stage(self, title, total, done=0):
        self.total, self.done = total, done
        yield self

    def advance(self, steps=1):
        self.left -= steps
        self.stop_requested = self.left <= 0

    def note(self, text): ...


def cached(tmp_path, made, digits):
    return ScoreCache(tmp_path, networks_key(digits, "brief", made))


@pytest.mark.parametrize("done", [0, 1, 2])
def test_an_evaluation_goes_on_where_it_was_cut_off(digits, few, tmp_path, done):
    whole = evaluate(few, digits, "brief")
    monitor = StopsAfter(3 * done + 1)  # after the first epoch of a network
    with pytest.raises(Interrupted, match=f"{done} of 3 networks tested") as error:
        evaluate(few, digits, "brief", monitor=monitor, cache=tmp_path)
    assert error.value.exit_code == 130 and (monitor.total, monitor.done) == (9, 0)
    tested = cached(tmp_path, few, digits).networks
    assert {index: entry["accuracy"] for index, entry in tested.items()} == dict(enumerate(whole.accuracies[:done]))
    silent = StopsAfter(100)
    resumed = evaluate(few, digits, "brief", monitor=silent, cache=tmp_path)
    assert found(resumed) == found(whole) and silent.done == 3 * done
    assert resumed.run["seconds"] >= sum(entry["seconds"] for entry in tested.values())


def test_cached_networks_are_believed_and_not_trained_again(digits, few, tmp_path, monkeypatch):
    scores = cached(tmp_path, few, digits)
    monkeypatch.setattr(scoring, "train", lambda *_, **__: pytest.fail("trained a network"))
    for index in (2, 0, 1):
        scores.get_or_run(index, lambda index=index: index + 1.0, SILENT)
    assert evaluate(few, digits, "brief", cache=tmp_path).accuracies == (1.0, 2.0, 3.0)
    assert evaluate(few, digits, "brief", networks=2, cache=tmp_path).accuracies == (1.0, 2.0)
    assert evaluate(few, digits, "brief", networks=[2, 1], cache=tmp_path).accuracies == (3.0, 2.0)


def test_networks_asked_for_by_number_are_those_of_the_whole(digits, few):
    whole = evaluate(few, digits, "brief")
    assert evaluate(few, digits, "brief", networks=[2]).accuracies == whole.accuracies[2:]
    with pytest.raises(UsageError, match="at least one network"):
        evaluate(few, digits, "brief", networks=[])


def test_processes_at_one_score_test_each_network_once_and_agree(digits, few, tmp_path, monkeypatch):
    whole, tested = evaluate(few, digits, "brief"), []
    monkeypatch.setattr("distill_bench.runtime.locks.LOCK_POLL_SECONDS", 0.01)
    build = scoring.build_network
    monkeypatch.setattr(scoring, "build_network", lambda *told: tested.append(1) or build(*told))
    with ThreadPoolExecutor(3) as pool:
        scores = list(pool.map(lambda _: evaluate(few, digits, "brief", cache=tmp_path), range(3)))
    assert [found(score) for score in scores] == [found(whole)] * 3
    assert len(tested) == 3  # once each, and none to count its operations


@pytest.mark.parametrize("choice", ["on", "off"])
def test_operations_are_counted_only_where_they_decide(digits, few, monkeypatch, choice):
    monkeypatch.setattr(scoring.compilation, "training_flops", lambda *_: pytest.fail("counted"))
    monkeypatch.setattr(scoring.compilation, "decide", lambda *_: False)
    assert evaluate(few, digits, "brief", networks=1, compile=choice).run["compiled"] is False


def test_networks_that_join_run_compiled_as_the_first(digits, few, tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(scoring.compilation, "unavailable", lambda: None)
    monkeypatch.setattr(scoring, "train", lambda *_, compiled, **__: modes.append(compiled))
    monkeypatch.setattr(scoring, "accuracy", lambda *_, **__: 50.0)
    for networks, choice in ((1, "on"), (2, "off"), (3, "auto")):
        assert evaluate(few, digits, "brief", networks=networks, compile=choice, cache=tmp_path).run["compiled"] is True
    assert modes == [True] * 3
    assert evaluate(few, digits, "brief", networks=1).run["compiled"] is False  # too little to do


def test_sets_of_the_same_images_and_classes_share_networks_and_no_others_do(digits, few, tmp_path, monkeypatch):
    soft = soft_set(few, torch.full((len(few.labels), 10), 0.1))
    first = evaluate(few, digits, "brief", cache=tmp_path)
    trained, train = [], scoring.train
    monkeypatch.setattr(scoring, "train", lambda *told, **how: trained.append(1) or train(*told, **how))
    shared = evaluate(soft, digits, "brief", labels="hard", cache=tmp_path)
    assert not trained and shared.accuracies == first.accuracies and shared.run["seconds"] == first.run["seconds"]
    assert shared.set_sha256 == soft.sha256 != first.set_sha256 and shared.score_key != first.score_key
    unasked = DistilledSet(
        soft.images, soft.labels, soft.card.model_copy(update={"alpha": 0.0}), soft_labels=soft.soft_labels
    )
    assert evaluate(unasked, digits, "brief", cache=tmp_path).accuracies == first.accuracies and not trained
    unit, four = ({"pixel_space": pixel_space_of(digits, "unit")}, {"formation": 2})
    others = {
        "its labels": (soft, {}),
        "another pixel space": (DistilledSet(few.images, few.labels, few.card.model_copy(update=unit)), {}),
        "four images in one": (DistilledSet(few.images, few.labels, few.card.model_copy(update=four)), {}),
        "other images": (DistilledSet(few.images.flip(0), few.labels, few.card), {}),
        "other classes": (DistilledSet(few.images, few.labels.flip(0), few.card), {}),
        "the learned rate": (DistilledSet(few.images, few.labels, few.card, learning_rate=0.5), {}),
        "another network": (few, {"network": "ConvNetD1W4"}),
        "another protocol": (few, {"protocol": "quick-v1+no-augmentation", "network": "ConvNetD1W4", "networks": 1}),
    }
    for name, (made, how) in others.items():
        trained.clear()
        evaluate(made, digits, **({"protocol": "brief"} | how), cache=tmp_path)
        assert trained, name


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"accuracy": "x", "seconds": 1}', '{"accuracy": null, "seconds": 1}']
)
def test_a_cached_network_that_cannot_be_read_is_tested_again(tmp_path, content):
    ScoreCache(tmp_path, "few").get_or_run(0, lambda: 1.0, SILENT)
    (file,) = tmp_path.rglob("0.json")
    file.write_text(content)
    scores = ScoreCache(tmp_path, "few")
    assert scores.networks == {}
    assert scores.get_or_run(0, lambda: 2.0, SILENT) == 2.0
    assert ScoreCache(tmp_path, "few").networks[0]["accuracy"] == 2.0


# ---- labels and rates


def soft_set(few, targets, **options):
    kind = options.pop("label_kind", "probabilities")
    card = few.card.model_copy(update={"label_kind": kind, "temperature": options.pop("temperature", 1.0)})
    return DistilledSet(few.images, few.labels, card, soft_labels=targets, **options)


def one_hot(labels):
    return torch.eye(10)[labels]


def test_certain_soft_labels_are_hard_labels(digits, few):
    hard, soft = (evaluate(s, digits, "brief") for s in (few, soft_set(few, one_hot(few.labels))))
    assert (hard.labels, soft.labels) == ("hard", "soft")
    assert soft.accuracies == pytest.approx(hard.accuracies, abs=0.6)  # two images, for rounding


def test_soft_labels_are_trained_on_unless_the_strict_evaluation_is_asked_for(digits, few):
    swapped = soft_set(few, one_hot((few.labels + 1) % 10), learning_rate=0.123)
    stored, strict = (evaluate(swapped, digits, "learns", labels=labels) for labels in ("stored", "hard"))
    assert (stored.labels, stored.learning_rate) == ("soft", 0.123) and stored.accuracy < 20
    assert (strict.labels, strict.learning_rate) == ("hard", 0.05) and strict.accuracy > 60
    assert strict.accuracies == evaluate(few, digits, "learns").accuracies


def test_logits_and_student_are_divided_by_the_cards_temperature(digits, few, monkeypatch):
    logits = 3 * torch.randn(100, 10, generator=generator("logits"))
    seen = []

    def targets_of(batches):
        return batches(0, torch.arange(100), generator("unused"))[1]

    monkeypatch.setattr(
        scoring,
        "train",
        lambda net, batches, count, plan, *_, **__: seen.append((targets_of(batches), plan.temperature)),
    )
    evaluate(soft_set(few, logits, label_kind="logits", temperature=4.0), digits, "brief", networks=1)
    evaluate(soft_set(few, logits.softmax(dim=1).half(), temperature=4.0), digits, "brief", networks=1)
    evaluate(soft_set(few, logits, label_kind="logits", temperature=4.0), digits, "brief", networks=1, labels="hard")
    evaluate(soft_set(few, logits.square(), label_kind="weights"), digits, "brief", networks=1)
    (of_logits, first), (of_probabilities, second), (hard, third), (weights, fourth) = seen
    expected = (logits.double() / 4).exp()
    torch.testing.assert_close(of_logits.double(), expected / expected.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(of_probabilities, logits.softmax(dim=1), rtol=1e-3, atol=1e-4)
    assert torch.equal(hard, few.labels) and torch.equal(weights, logits.square())
    assert (first, second, third, fourth) == (4.0, 4.0, 1.0, 1.0)


def test_a_learned_rate_is_used_where_the_protocol_allows(digits, few):
    learned = DistilledSet(few.images, few.labels, few.card, learning_rate=0.02)
    assert evaluate(learned, digits, "brief", networks=1).learning_rate == 0.02
    assert evaluate(learned, digits, "own rate", networks=1).learning_rate == 0.05
    strict = evaluate(learned, digits, "brief", labels="hard", networks=1)
    assert strict.learning_rate == 0.05
    assert strict.accuracies == evaluate(few, digits, "brief", networks=1).accuracies


def test_divergence_names_the_network(digits, few):
    learned = DistilledSet(few.images, few.labels, few.card, learning_rate=1e30)
    with pytest.raises(RunFailed, match=r"network 0: training diverged: .* learning rate 1e\+30"):
        evaluate(learned, digits, "brief")


# ---- pixels


@pytest.mark.parametrize("kind", ["unit", "zca"])
def test_the_test_images_are_taken_into_the_sets_own_space(digits, kind):
    score = evaluate(real_set(digits, 50, kind=kind), digits, "learns")
    assert score.pixel_space == kind and score.accuracy > (80 if kind == "unit" else 90)


def test_eight_bit_images_are_encoded_as_the_test_images_are(digits, few):
    indices = torch.cat([own[:10] for own in digits.train.class_indices])
    pixels = DistilledSet(digits.train.images(indices), few.labels, few.card)
    assert evaluate(pixels, digits, "brief").accuracies == evaluate(few, digits, "brief").accuracies


def test_half_precision_images_are_trained_on_in_single_precision(digits, few):
    half = DistilledSet(few.images.half(), few.labels, few.card)
    single = DistilledSet(few.images.half().float(), few.labels, few.card)
    assert evaluate(half, digits, "brief").accuracies == evaluate(single, digits, "brief").accuracies


def test_digits_are_augmented_without_flipping_and_others_with(digits, few, monkeypatch):
    seen = set()

    def spy(operations, *arguments, sample=dsa.sample):
        seen.add(operations)
        return sample(operations, *arguments)

    monkeypatch.setattr(dsa, "sample", spy)
    evaluate(few, digits, "brief", networks=1)
    assert seen == {("color", "crop", "cutout", "scale", "rotate")}
    seen.clear()
    evaluate(few, dataclasses.replace(digits, flip_invariant=True), "brief", networks=1)
    assert seen == {("color", "crop", "cutout", "flip", "scale", "rotate")}


def test_test_labels_show_in_the_accuracy_alone(digits, few, monkeypatch):
    test, weights = digits.test, []

    def poisoned():
        return Split(255 - test.images(torch.arange(len(test))), (test.labels + 1) % 10)

    other = dataclasses.replace(digits, load_test=poisoned, _cache={})
    monkeypatch.setattr(
        scoring, "accuracy", lambda net, *_, **__: weights.append(net.classifier.weight.clone()) or 50.0
    )
    evaluate(few, digits, "brief", networks=1)
    evaluate(few, other, "brief", networks=1)
    assert torch.equal(*weights)
    evaluate(few, digits, "brief", networks=1)
    assert torch.equal(weights[0], weights[2])


# ---- arguments


def test_another_network_or_number_of_them(digits, few):
    score = evaluate(few, digits, "brief", network="ConvNetW8BN", networks=2)
    assert (score.network, score.networks) == ("ConvNetD2W8BN", 2)
    single = evaluate(few, digits, "brief", networks=1)
    assert (single.ci_low, single.ci_high, single.std) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"protocol": "none-v1"}, "unknown protocol 'none-v1'"),
        ({"protocol": "whole"}, "use evaluate_full"),
        ({"network": "ResNet"}, "unknown network 'ResNet'"),
        ({"network": "ConvNetD5"}, "too small"),
        ({"networks": 0}, "`networks=0`"),
        ({"networks": -1}, "`networks=-1`"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(digits, few, options, rule):
    with pytest.raises(UsageError, match=rule):
        evaluate(few, digits, **{"protocol": "brief"} | options)


def test_a_set_of_other_classes_is_refused(digits, few):
    with pytest.raises(UsageError, match="differ first at the label 0, which is '0' in the set and '9' in the data"):
        evaluate(few, dataclasses.replace(digits, class_names=tuple("9876543210")), "brief")


def test_a_set_of_another_shape_is_refused(digits, few):
    larger = DistilledSet(torch.zeros(10, 1, 9, 8), torch.arange(10), few.card)
    with pytest.raises(UsageError, match="images are 1×9×8, those of digits 1×8×8"):
        evaluate(larger, digits, "brief")


def test_scores_on_another_training_split_carry_a_note(digits, few):
    held, other = digits.with_holdout(0.2), digits.with_holdout(0.3)
    assert evaluate(real_set(held), held, "brief", networks=1).notes == ()
    leak = "the test images were held out of a training split that the set was made from"
    tested = held.test.images(torch.arange(len(held.test)))
    for leaking in (few, real_set(other)):
        with pytest.raises(UsageError, match=leak):
            evaluate(leaking, held, "brief", networks=1)
        space = leaking.card.pixel_space
        levels = ((leaking.images * space.std[0] + space.mean[0]) * 255).round().to(torch.uint8)
        among = sum(bool((tested == image).flatten(1).all(dim=1).any()) for image in levels)
        assert among > 5
        pixels = f"{among} of 100 images of the set are test images, pixel for pixel"
        assert evaluate(leaking, held, "brief", networks=1, allow_leak=True).notes == (leak, pixels)
    changed = "the training split is not the one that the set was made from"
    assert evaluate(real_set(held), digits, "brief", networks=1).notes == (changed,)


# ---- the reference line


def test_the_whole_training_split_is_a_reference(digits):
    score = evaluate_full(digits, "whole", networks=2)
    assert (score.method, score.ipc, score.set_sha256, score.labels) == ("full", None, None, "hard")
    assert score.bytes == len(digits.train) * (64 + 8) and score.networks == 2
    # as for a set of all its images
    everything = torch.arange(len(digits.train))
    images = Transform(pixel_space_of(digits, "normalized"), None).encode(digits.train.images(everything))
    material = DistilledSet.from_tensors(images, digits.train.labels, digits)
    PROTOCOLS["whole"] = PROTOCOLS["whole"].model_copy(update={"trains_on": "distilled"})
    assert evaluate(material, digits, "whole", networks=2).accuracies == score.accuracies


def test_a_protocol_for_sets_is_refused_for_the_whole_split(digits):
    with pytest.raises(UsageError, match="brief scores distilled sets"):
        evaluate_full(digits, "brief")


def test_a_protocol_may_have_another_network_for_a_source(digits):
    rules = load_protocol("quick-v1").model_copy(update={"overrides": {"digits": {"network": "MLP"}}})
    space = pixel_space_of(digits, "normalized")
    assert setup_evaluation(digits, rules, space).network == "MLP"
    assert setup_evaluation(digits, rules, space, network="ConvNetBN").network == "ConvNetD2W64BN"
    other = rules.model_copy(update={"overrides": {"mnist": {"network": "MLP"}}})
    assert setup_evaluation(digits, other, space).network == "ConvNetD2W64"


def test_numbers_of_networks_are_each_once_and_only_the_first_so_many_are_a_score_of_that_number(few, digits, tmp_path):
    for wrong in ([0, 0], [-1], [1, 2, 1]):
        with pytest.raises(UsageError, match="0, 1 and so on, each once"):
            evaluate(few, digits, "brief", networks=wrong)
    first, third = (evaluate(few, digits, "brief", networks=each, cache=tmp_path) for each in (2, [2]))
    assert first.score_key.endswith("-2") and third.score_key is None
    again = evaluate(few, digits, "brief", networks=1, cache=tmp_path)
    assert again.run["seconds"] < first.run["seconds"]  # of that one alone, though three are stored
