"""Sets of targets: who may train on them, and what a network that was pre-trained by them is worth."""

import json
import math

import numpy
import pytest
import torch
from forms_table import made, targeted
from torch import nn

from distill_bench import evaluate, evaluate_full, synthesize
from distill_bench.benchmark.beside import random_beside
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.card import TARGETS
from distill_bench.errors import UsageError
from distill_bench.evaluation import PROTOCOLS, load_protocol, members, pretraining, protocol_note
from distill_bench.evaluation.evaluate import prepare
from distill_bench.evaluation.probe import Probe, Task, features_of, labelled, logistic_regression, probed
from distill_bench.evaluation.scoring import train_network
from distill_bench.networks import build_network
from distill_bench.pretrained.barlow_twins import get_or_train_encoder
from distill_bench.runtime.seeds import generator

NAMES = members("probe-v1")
LINEAR, TUNED = Probe(way="linear", labels=2), Probe(way="finetune", labels=2, steps=5, batch_size=8)


@pytest.fixture
def short(monkeypatch, tmp_path):
    """The protocols with few steps, and a home of their own."""
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    for name in NAMES:
        rules = PROTOCOLS[name]
        encoder = rules.probe.encoder.model_copy(update={"minimum_steps": 0, "projector": (4, 4)})
        probe = rules.probe.model_copy(update={"steps": 2, "draws": 2, "encoder": encoder})
        quick = {"epochs": 2, "networks": 2, "network": "ConvNetD1W4BN", "probe": probe}
        monkeypatch.setitem(PROTOCOLS, name, rules.model_copy(update=quick))


def task_of(digits):
    data = TrainingData(digits, pixel_space_of(digits, "normalized"), torch.device("cpu"))
    test = data.encode(digits.test.images(torch.arange(90)))
    return Task(
        load=data.images,
        labels=digits.train.labels,
        test=lambda at: test[at],
        test_labels=digits.test.labels[:90],
        classes=10,
        augment=None,
        device=torch.device("cpu"),
    )


def network_of(index=0):
    return build_network("ConvNetD1W4BN", (1, 8, 8), 3, generator("probe", index)).eval()


# ---- who may train on targets


def test_a_protocol_that_trains_on_labels_refuses_targets_and_says_what_can_be_had(digits):
    with pytest.raises(UsageError, match=r"3 features .* quick-v1 trains on labels of 10 .*probe-v1-linear-1.*=hard`"):
        evaluate(targeted(digits), digits, "quick-v1", "ConvNetD1W4", 1)


@pytest.mark.parametrize(("make", "labels"), [(made, "stored"), (targeted, "hard")])
def test_a_protocol_that_pre_trains_refuses_labels(digits, make, labels):
    with pytest.raises(UsageError, match=r"probe-v1-linear-5 pre-trains .* of the kind 'hard'.*random-targets and krr"):
        evaluate(make(digits), digits, "probe-v1-linear-5", labels=labels)


def test_the_name_of_several_protocols_is_none_of_them(digits):
    assert len(NAMES) == 6 and members("quick-v1") == ("quick-v1",)
    for ask in (lambda: load_protocol("probe-v1"), lambda: evaluate(targeted(digits), digits, "probe-v1")):
        with pytest.raises(UsageError, match=f"stands for 6 protocols, and one is wanted: name {NAMES[0]}, {NAMES[1]}"):
            ask()


def test_networks_of_libraries_are_not_probed(digits):
    with pytest.raises(UsageError, match="probes the features of networks of this project; torchvision:resnet18"):
        evaluate(targeted(digits), digits, "probe-v1-linear-1", "torchvision:resnet18", 1)


def test_lines_are_those_that_there_are(digits):
    with pytest.raises(UsageError, match="give full; or untrained under a protocol that probes"):
        evaluate_full(digits, "full-v1", line="untrained")
    with pytest.raises(UsageError, match="`line=nothing`"):
        evaluate_full(digits, NAMES[0], line="nothing")


def test_the_classes_of_its_images_are_labels_where_they_are_asked_for(digits):
    asked = {"protocol": "quick-v1", "network": "ConvNetD1W4", "networks": 1, "labels": "hard"}
    found, plain = (evaluate(one, digits, **asked) for one in (targeted(digits), made(digits)))
    assert found.accuracies == plain.accuracies and found.strict and not plain.strict


def test_the_random_images_beside_targets_have_targets_of_the_same_encoder(digits):
    one = synthesize(digits, "random-targets", 1, "test", seed=4)
    beside = random_beside(one, digits)
    assert torch.equal(beside.images, one.images) and torch.equal(beside.stored[TARGETS], one.stored[TARGETS])
    assert random_beside(one, digits, "hard").card.method == "random"


# ---- the probes


def test_logistic_regression_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    features = torch.randn(40, 6, generator=generator("features"), dtype=torch.float64)
    labels = torch.randint(0, 4, (40,), generator=generator("labels"))
    weights, offsets = logistic_regression(features, labels, 4, 0.05)
    other = LogisticRegression(C=1 / (40 * 0.05), tol=1e-10, max_iter=10_000).fit(features.numpy(), labels.numpy())
    numpy.testing.assert_allclose(weights.numpy(), other.coef_, atol=1e-4)
    # offsets are free up to one number
    numpy.testing.assert_allclose((offsets - offsets.mean()).numpy(), other.intercept_, atol=1e-4)


def test_labels_are_of_different_images_of_every_class_and_all_where_fewer_or_all_are_asked_for():
    labels = torch.tensor([2, 0, 1, 0, 2, 0, 2, 2])
    chosen = labelled(labels, 3, 2, generator("draw", 0))
    assert labels[chosen].tolist() == [0, 0, 1, 2, 2] and len(chosen.unique()) == 5
    assert labelled(labels, 3, 0, generator("draw", 0)).tolist() == [*range(8)]
    draws = {tuple(labelled(labels, 3, 2, generator("draw", k)).tolist()) for k in range(20)}
    assert len(draws) > 5


def test_a_linear_probe_is_a_regression_on_centred_features_of_mean_square_one(digits):
    task, network = task_of(digits), network_of()
    found = probed(network, LINEAR, task, lambda number: generator("draw", number))
    spread = torch.arange(len(digits.train))[:2000]
    whole = features_of(network, task.load, spread, task.device)
    scaled = (whole - whole.mean(dim=0)) / (whole - whole.mean(dim=0)).square().mean().sqrt()
    assert scaled.square().mean().item() == pytest.approx(1)
    test = features_of(network, task.test, torch.arange(90), task.device)
    test = (test - whole.mean(dim=0)) / (whole - whole.mean(dim=0)).square().mean().sqrt()
    right = []
    for number in range(LINEAR.draws):
        chosen = labelled(digits.train.labels, 10, 2, generator("draw", number))
        weights, offsets = logistic_regression(scaled[chosen], digits.train.labels[chosen], 10, LINEAR.penalty)
        right.append(((test @ weights.T + offsets).argmax(1) == task.test_labels).double().mean().item())
    assert found == pytest.approx(100 * sum(right) / 3)
    for module in network.modules():  # a last layer a thousand times as strong is the same to it
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data *= 1000
            module.bias.data *= 1000
    assert probed(network, LINEAR, task, lambda number: generator("draw", number)) == pytest.approx(found)


@pytest.mark.usefixtures("global_rng_untouched")
def test_fine_tuning_is_sgd_on_all_of_a_copy_with_a_new_classifier(digits):
    task, network = task_of(digits), network_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    once = TUNED.model_copy(update={"draws": 1, "steps": 6, "batch_size": 20, "learning_rate": 0.1})
    found = probed(network, once, task, lambda number: generator("draw", number))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    draws, plain = generator("draw", 0), network_of()
    chosen = labelled(digits.train.labels, 10, 2, draws)
    bound = 1 / math.sqrt(plain.classifier.in_features)
    plain.classifier = nn.utils.skip_init(nn.Linear, plain.classifier.in_features, 10)
    for values in (plain.classifier.weight, plain.classifier.bias):
        nn.init.uniform_(values, -bound, bound, generator=draws)
    sgd = torch.optim.SGD(plain.train().parameters(), 0.1, momentum=0.9, weight_decay=once.weight_decay)
    for step in range(6):  # all 20 images a step
        sgd.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * step / 6)) / 2
        order = chosen[torch.randperm(20, generator=draws)]
        sgd.zero_grad()
        nn.functional.cross_entropy(plain(task.load(order)), digits.train.labels[order]).backward()
        sgd.step()
    plain.eval()
    right = (plain(task.test(torch.arange(90))).argmax(1) == task.test_labels).double().mean().item()
    assert found == pytest.approx(100 * right)


def test_fine_tuning_takes_the_steps_it_says():
    for images, steps in ((10, 100), (50, 100), (1438, 108)):  # 12 steps an epoch
        plan = Probe(way="finetune", labels=1).plan(images)
        assert plan.epochs * math.ceil(images / plan.batch_size) == steps


# ---- the networks


@pytest.mark.usefixtures("short")
def test_pre_training_is_sgd_on_the_squared_error_without_augmentation(digits):
    one = targeted(digits)
    setup, inputs, _ = prepare(one, digits, "probe-v1-finetune-1")
    network = train_network(setup, 1, inputs, lambda: None)
    seeds = (digits.kind, "probe-v1", 1)
    plain = build_network("ConvNetD1W4BN", (1, 8, 8), 3, generator(*seeds, "weights")).train()
    sgd = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    draws = generator(*seeds, "training")
    for _ in range(2):
        order = torch.randperm(20, generator=draws)
        sgd.zero_grad()
        (plain(one.images[order]) - one.stored[TARGETS][order]).square().mean().backward()
        sgd.step()
    for found, right in zip(network.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(found, right)


@pytest.mark.usefixtures("short")
def test_all_protocols_probe_the_same_network_which_is_trained_once_and_each_hears_of_its_epochs(digits, monkeypatch):
    trained = []
    pretraining._made.cache_clear()
    own = pretraining._on_targets
    monkeypatch.setattr(pretraining, "_on_targets", lambda *given: trained.append(given[2]) or own(*given))
    heard, networks = [], []
    for name in NAMES:
        setup, inputs, _ = prepare(targeted(digits), digits, name)
        heard.append(0)

        def count():
            heard[-1] += 1

        networks.append(train_network(setup, 0, inputs, count))
    assert trained == [0] and heard == [2] * 6
    assert all(torch.equal(one.classifier.weight, networks[0].classifier.weight) for one in networks)
    other = made(digits).images + 1
    changed = type(targeted(digits))(other, targeted(digits).labels, targeted(digits).card,
                                     stored=targeted(digits).stored)  # fmt: skip
    setup, inputs, _ = prepare(changed, digits, NAMES[0])
    assert not torch.equal(
        train_network(setup, 0, inputs, lambda: None).classifier.weight, networks[0].classifier.weight
    )
    assert trained == [0, 0]


@pytest.mark.usefixtures("short")
def test_the_lines_are_networks_as_they_begin_and_encoders_of_all_images(digits):
    results = {line: evaluate_full(digits, NAMES[0], line=line) for line in ("untrained", "full")}
    assert [each.method for each in results.values()] == [*results]
    assert all((each.ipc, each.labels, each.learning_rate) == (None, "none", 0) for each in results.values())
    assert results["untrained"].images is None and results["full"].images == len(digits.train)
    assert results["untrained"].score_key != results["full"].score_key
    rules, task = load_protocol(NAMES[0]), task_of(digits)
    test = TrainingData(digits, pixel_space_of(digits, "normalized"), torch.device("cpu")).encode(
        digits.test.images(torch.arange(len(digits.test)))
    )
    task = Task(**{**vars(task), "test": lambda at: test[at], "test_labels": digits.test.labels})
    data = TrainingData(digits, pixel_space_of(digits, "normalized"), torch.device("cpu"))
    recipe = rules.probe.encoder.model_copy(update={"network": "ConvNetD1W4BN"})
    for index in range(2):
        seeds = (digits.kind, "probe-v1", index)
        fresh = build_network("ConvNetD1W4BN", (1, 8, 8), 1, generator(*seeds, "weights"))
        for line, network in (("untrained", fresh), ("full", get_or_train_encoder(data, recipe, index).network)):
            right = probed(network, rules.probe, task, lambda k, s=seeds: generator(*s, "labels", k))
            assert results[line].accuracies[index] == pytest.approx(right)


@pytest.mark.usefixtures("short")
def test_the_parts_of_the_cards_protocol_are_no_others(digits):
    distilled = targeted(digits)
    distilled.card = distilled.card.model_copy(update={"protocol": "probe-v1"})
    assert [protocol_note(distilled, name) for name in NAMES] == [()] * 6
    assert protocol_note(distilled, "quick-v1") == (
        "evaluated under quick-v1; the protocol on the set's card is probe-v1",
    )


def test_the_command_prints_a_table_of_a_set_and_of_the_lines(short, command, digits, tmp_path):
    targeted(digits).save(tmp_path / "set.safetensors")
    code, out, error = command("evaluate", tmp_path / "set.safetensors", "--protocol", "probe-v1", "--quiet")
    assert code == 0, error
    assert out.splitlines()[1] == f"| | {' | '.join(NAMES)} |" and out.splitlines()[3].count("±") == 6
    code, out, _ = command("evaluate", "--protocol", "probe-v1", "--dataset", "digits", "--quiet", "--json")
    found = json.loads(out)
    assert code == 0 and [each["method"] for each in found] == ["full"] * 6 + ["untrained"] * 6
    assert [each["protocol"] for each in found] == [*NAMES] * 2
