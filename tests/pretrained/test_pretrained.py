"""The store of pretrained work, and teachers in it."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from pretraining import StopsAfter, data
from torchvision.models import resnet18
from waiting import until

from distill_bench import DataError, Interrupted, RunFailed, UsageError, synthesize
from distill_bench.datasets import Split
from distill_bench.evaluation import recorded_score, score_teacher
from distill_bench.networks import ARCHITECTURES, build_network
from distill_bench.pretrained import experts, weights
from distill_bench.pretrained.store import get_or_create, list_stored
from distill_bench.pretrained.teachers import (
    TeacherRecipe,
    get_or_train_teacher,
    list_teachers,
    teacher_recipe,
)
from distill_bench.pretrained.training import CHECKED_IMAGES
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.seeds import generator
from distill_bench.runtime.stored import write_with_sum
from distill_bench.training.train import accuracy, table_batches, train

QUICK = TeacherRecipe(network="ConvNetD1W4", epochs=3, learning_rate=0.05)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# the store


def piece(checkpoint, value=1.0):
    return {"a": torch.full((3,), value), "b": torch.arange(2)}, {"found": value}


def test_what_is_kept_is_made_once_and_found_by_its_identity():
    calls = []

    def make(checkpoint):
        calls.append(1)
        return piece(checkpoint)

    first = get_or_create("things", {"x": (1, 2)}, make, SILENT, dataset="d")
    again = get_or_create("things", {"x": [1, 2]}, make, SILENT, dataset="another name of the same data")
    other = get_or_create("things", {"x": [1, 3]}, make, SILENT, dataset="d")
    assert len(calls) == 2
    assert first.path == again.path != other.path
    assert first.history["dataset"] == again.history["dataset"] == "d"
    assert {"seconds", "torch", "threads"} <= set(first.history)
    assert again.facts == {"found": 1.0}
    assert torch.equal(again.tensors()["a"], torch.ones(3)) and again.tensors()["b"].dtype == torch.int64
    assert [p.key for p in list_stored("things")] == sorted([first.key, other.key])
    assert list_stored("others") == []


def test_the_file_holds_no_time_and_no_name():
    first = get_or_create("things", {"x": 1}, piece, SILENT, dataset="d")
    content = first.path.read_bytes()
    first.path.unlink()
    get_or_create("things", {"x": 1}, piece, SILENT, dataset="e")
    assert first.path.read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "text", "another piece"])
def test_a_damaged_file_is_made_again(damage):
    first = get_or_create("things", {"x": 1}, piece, SILENT, dataset="d")
    other = get_or_create("things", {"x": 2}, lambda c: piece(c, 2.0), SILENT, dataset="d")
    whole = first.path.read_bytes()
    first.path.write_bytes({"cut": whole[:-4], "text": b"hello", "another piece": other.path.read_bytes()}[damage])
    again = get_or_create("things", {"x": 1}, piece, SILENT, dataset="d")
    assert (again.facts["found"], again.path.read_bytes()) == (1.0, whole)


def test_unfinished_work_is_found_again_and_then_cleared(home):
    def stops(checkpoint):
        checkpoint.save({"t": torch.ones(1), "step": 4})
        raise Interrupted("stopped")

    def resume_mode(checkpoint):
        saved = checkpoint.load()
        return {"t": saved["t"]}, {"step": saved["step"]}

    with pytest.raises(Interrupted):
        get_or_create("things", {"x": 1}, stops, SILENT, dataset="d")
    assert list_stored("things") == []
    made = get_or_create("things", {"x": 1}, resume_mode, SILENT, dataset="d")
    assert made.facts["step"] == 4
    assert list((home / "pretrained/things/unfinished").iterdir()) == []


def test_several_that_need_the_same_make_it_once():
    made, found = [], []

    def make(checkpoint):
        made.append(1)
        time.sleep(0.05)
        return piece(checkpoint)

    def need():
        found.append(get_or_create("things", {"x": 1}, make, SILENT, dataset="d").facts)

    threads = [threading.Thread(target=need) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert found == [{"found": 1.0}] * 4


def test_who_waits_for_another_process_can_be_stopped(monkeypatch):
    monkeypatch.setattr("distill_bench.runtime.locks.LOCK_POLL_SECONDS", 0.01)
    first = get_or_create("things", {"x": 1}, piece, SILENT, dataset="d")
    with FileLock(first.path.with_suffix(".lock")), pytest.raises(Interrupted, match="another process"):
        get_or_create("things", {"x": 1}, piece, StopsAfter(0), dataset="d")


# teachers


def test_a_teacher_is_the_one_sgd_loop_on_the_training_split_and_no_more(digits):
    from distill_bench.augmentations import dsa

    def no_test_split() -> Split:
        raise AssertionError("a teacher asked for the test split")

    training = data(dataclasses.replace(digits, load_test=no_test_split))
    teacher = get_or_train_teacher(training, QUICK, 5)
    expected = build_network("ConvNetD1W4", training.shape, 10, generator(5, "teacher", "weights"))
    images = training.images(torch.arange(len(training)))
    draws = generator(5, "teacher", "training")
    plan = QUICK.plan(len(training))
    batches = table_batches(images.__getitem__, training.labels, dsa.augmentation(False))
    train(expected, batches, len(training), plan, draws)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(teacher.network.state_dict()[name], tensor)
    assert not teacher.network.training and not any(p.requires_grad for p in teacher.network.parameters())
    assert len(training) < CHECKED_IMAGES
    assert (
        teacher.accuracy
        == accuracy(expected, images.__getitem__, training.labels)
        == teacher.pretrained.facts["accuracy"]
    )


@pytest.mark.parametrize("space", ["unit", "zca"])
def test_a_teacher_knows_the_pixel_space(digits, space):
    first, second = (get_or_train_teacher(data(digits, kind), QUICK, 0) for kind in ("normalized", space))
    assert first.pretrained.key != second.pretrained.key
    assert first.pretrained.identity["pixel_space"]["kind"] == "normalized"


def test_everything_a_teacher_depends_on_is_in_its_address(digits):
    keys = [get_or_train_teacher(data(digits), QUICK, 0).pretrained.key]
    for recipe, seed in ((QUICK, 1), (QUICK.model_copy(update={"epochs": 4}), 0)):
        keys.append(get_or_train_teacher(data(digits), recipe, seed).pretrained.key)
    keys.append(get_or_train_teacher(data(digits.with_holdout(0.2)), QUICK, 0).pretrained.key)
    renamed = dataclasses.replace(digits, class_names=tuple("abcdefghij"), _cache={})
    keys.append(get_or_train_teacher(data(renamed), QUICK, 0).pretrained.key)
    assert len(set(keys)) == len(keys) == len(list_teachers())


def test_a_name_without_depth_is_the_usual_networks_teacher(digits):
    short = TeacherRecipe(network="ConvNet", epochs=1, learning_rate=0.05)
    full = short.model_copy(update={"network": "ConvNetD2W64"})
    assert (
        get_or_train_teacher(data(digits), short, 0).pretrained.key
        == get_or_train_teacher(data(digits), full, 0).pretrained.key
    )


@pytest.mark.parametrize("network", ["ConvNetD1W4", "ConvNetD1W4BN"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_teacher_stopped_between_epochs_has_the_same_bytes(digits, network, epoch, home, monkeypatch, tmp_path):
    recipe = QUICK.model_copy(update={"network": network})
    whole = get_or_train_teacher(data(digits), recipe, 0).pretrained.path.read_bytes()
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "another"))
    with pytest.raises(Interrupted, match=f"{epoch} of 3 epochs"):
        get_or_train_teacher(data(digits), recipe, 0, monitor=StopsAfter(epoch))
    assert list_teachers() == []
    assert get_or_train_teacher(data(digits), recipe, 0).pretrained.path.read_bytes() == whole


@pytest.mark.slow
def test_a_killed_teacher_has_the_same_bytes(digits, forked_python, tmp_path, monkeypatch):
    recipe = QUICK.model_copy(update={"epochs": 60})
    whole = get_or_train_teacher(data(digits), recipe, 0).pretrained.path.read_bytes()
    code = (
        "import os, torch; torch.set_num_threads(1); print(os.getpid(), flush=True)\n"
        "from pretraining import data\n"
        "from test_pretrained import QUICK, get_or_train_teacher; from distill_bench import load_dataset\n"
        "recipe = QUICK.model_copy(update={'epochs': 60})\n"
        "get_or_train_teacher(data(load_dataset('digits')), recipe, 0, every_seconds=0.0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "killed"))
    process = subprocess.Popen([forked_python, "-c", code], stdout=subprocess.PIPE, text=True)
    until(lambda: list((tmp_path / "killed/pretrained/teachers/unfinished").glob("*.safetensors")), process)
    with process.stdout as said:
        os.kill(int(said.readline()), signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    get_or_train_teacher(data(digits), recipe, 0)
    (file,) = (tmp_path / "killed/pretrained/teachers").glob("*.safetensors")
    assert file.read_bytes() == whole


def test_a_teacher_that_is_not_the_recorded_one_is_refused(digits):
    path = get_or_train_teacher(data(digits), QUICK, 0).pretrained.path
    content = path.read_bytes()
    weights = build_network("ConvNetD1W4", (1, 8, 8), 10, generator("other")).state_dict()
    size = sum(tensor.numel() * 4 for tensor in weights.values())
    other = content[:-size] + b"".join(t.numpy().tobytes() for t in weights.values())
    write_with_sum(path, other, {})  # by whoever can write sums too
    with pytest.raises(DataError, match=r"% on training images where \d+\.\d % were recorded. Delete the file"):
        get_or_train_teacher(data(digits), QUICK, 0)


def test_a_teacher_that_has_learned_nothing_is_refused(digits):
    lazy = QUICK.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    with pytest.raises(RunFailed, match="hardly better than naming the commonest class"):
        get_or_train_teacher(data(digits), lazy, 0)


def test_few_images_get_their_minimum_of_steps():
    recipe = TeacherRecipe(epochs=2, minimum_steps=500, batch_size=256)
    assert [recipe.plan(images).epochs for images in (20, 1437, 50_000, 60_000, 10**6)] == [500, 84, 3, 3, 2]


def test_wrong_values_are_one_clear_error(digits):
    with pytest.raises(UsageError, match=r"epoch: Extra inputs.*Its fields: network, epochs"):
        teacher_recipe({"epoch": 3})
    with pytest.raises(UsageError, match="learning_rate: Input should be greater than 0"):
        teacher_recipe({"learning_rate": -1})
    with pytest.raises(UsageError, match="unknown network"):
        get_or_train_teacher(data(digits), teacher_recipe({"network": "Nope"}), 0)


def test_the_test_accuracy_is_recorded_beside_the_teacher(digits):
    teacher = get_or_train_teacher(data(digits), QUICK, 0)
    content = teacher.pretrained.path.read_bytes()
    assert recorded_score(teacher.pretrained) is None
    percent = score_teacher(teacher, digits)
    test = digits.test
    images = (test.images(torch.arange(len(test))).float() / 255 - digits.mean[0]) / digits.std[0]
    right = (teacher.network(images).argmax(dim=1) == test.labels).float().mean()
    assert percent == pytest.approx(100 * float(right))
    assert recorded_score(teacher.pretrained) == percent
    beside = json.loads(teacher.pretrained.path.with_suffix(".test.json").read_text())
    assert beside["test_fingerprint"] == test.fingerprint
    assert teacher.pretrained.path.read_bytes() == content


def test_a_cosine_goes_to_nothing_and_a_constant_rate_goes_without_saying():
    cosine, constant = TeacherRecipe(epochs=10, schedule="cosine"), TeacherRecipe(epochs=10)
    assert [cosine.plan(256).rate(epoch) for epoch in (0, 5, 10)] == pytest.approx([0.01, 0.005, 0.0])
    assert [constant.plan(256).rate(epoch) for epoch in (0, 5, 10)] == [0.01] * 3
    assert cosine.model_dump() == constant.model_dump() | {"schedule": "cosine"}
    assert "schedule" not in constant.model_dump()


def test_nesterovs_momentum_goes_unsaid_where_it_is_not_asked_for_and_takes_a_momentum():
    recipe = TeacherRecipe(nesterov=True)
    assert recipe.plan(256).nesterov and not TeacherRecipe().plan(256).nesterov
    assert recipe.model_dump() == TeacherRecipe().model_dump() | {"nesterov": True}
    with pytest.raises(UsageError, match="momentum is 0: give one above 0"):
        teacher_recipe({"nesterov": True, "momentum": 0})


def test_reflected_borders_show_the_image_where_shifts_show_nothing():
    image = torch.arange(64.0).view(1, 1, 8, 8) + 1
    for augment, nothing in (("shift", True), ("reflected", False)):
        shown = [TeacherRecipe(augment=augment).augmentation(False)(image, generator("r", i)) for i in range(20)]
        assert any(bool((view == 0).any()) for view in shown) is nothing


def test_shifted_images_are_mirrored_only_where_they_may_be():
    image, recipe = torch.arange(64.0).view(1, 1, 8, 8) + 1, TeacherRecipe(augment="shift")
    for mirrors in (False, True):
        shown = [recipe.augmentation(mirrors)(image, generator("shift", i))[0, 0] for i in range(40)]
        assert all((view > 0).sum() >= 16 for view in shown)  # at most half of either axis is shifted out
        assert any((view > 0).sum() < 64 for view in shown)
        rising = [all(torch.equal(r[r > 0], r[r > 0].sort().values) for r in view) for view in shown]
        assert all(rising) is not mirrors and any(rising)


# ---- weights from elsewhere

STUB = "torchvision:Stub_Weights.DIGITS"


@pytest.fixture
def stub(digits, tmp_path, monkeypatch):
    """Weights of a small network that knows digits, as torchvision would offer them; said to have 90 % accuracy."""
    teacher = get_or_train_teacher(
        data(digits), TeacherRecipe(network="ConvNetD1W8BN", epochs=20, learning_rate=0.05), 0
    )
    state = {name.replace("classifier", "fc").removeprefix("features."): t
             for name, t in teacher.network.state_dict().items() if "num_batches" not in name}  # fmt: skip
    torch.save(state, tmp_path / "stub.pth")
    content = (tmp_path / "stub.pth").read_bytes()
    file = tmp_path / f"stub-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    file.write_bytes(content)
    entry = SimpleNamespace(url=file.as_uri(), meta={"categories": list(range(10)),
                                                     "_metrics": {"ImageNet-1K": {"acc@1": 90.0}}})  # fmt: skip
    monkeypatch.setattr("torchvision.models.get_weight", {"Stub_Weights.DIGITS": entry}.__getitem__)
    monkeypatch.setitem(weights.NETWORKS, STUB, "ConvNetD1W8BN")
    monkeypatch.delenv("DISTILL_BENCH_OFFLINE", raising=False)
    return file, teacher.network.state_dict()


ADOPTED = TeacherRecipe(network="ConvNetD1W8BN", weights=STUB)


def test_weights_are_fetched_once_and_are_the_same_teacher_for_every_seed(digits, stub, home, capsys):
    file, state = stub
    teacher = get_or_train_teacher(data(digits), ADOPTED, 0)
    assert capsys.readouterr().out == ""  # torch speaks of its downloads
    for name, tensor in teacher.network.state_dict().items():
        assert "num_batches" in name or torch.equal(tensor, state[name])
    assert not teacher.network.training and teacher.pretrained.facts["stated"] == 90.0 and teacher.accuracy > 90.0
    assert (home / "pretrained/torchvision" / file.name).read_bytes() == file.read_bytes()
    file.unlink()
    assert (
        get_or_train_teacher(data(digits), ADOPTED.model_copy(update={"epochs": 3}), 7).pretrained.key
        == teacher.pretrained.key
    )


@pytest.mark.parametrize("order", [[1, 0, 3, 2, 4, 5, 6, 7, 8, 9], [*range(1, 10), 0]], ids=["some", "all"])
def test_another_order_of_classes_shows_in_the_accuracy(digits, stub, order):
    split = digits.train.relabelled(torch.tensor(order)[digits.train.labels])
    renamed = dataclasses.replace(digits, load_train=lambda: split, _cache={})
    with pytest.raises(DataError, match=r"has \d+\.\d % on training .* where 90\.0 % are stated .* order of classes"):
        get_or_train_teacher(data(renamed), ADOPTED, 0)


def test_without_network_weights_must_lie_there(digits, stub, home, monkeypatch):
    file, _ = stub
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "1")
    message = rf"not in {home}/pretrained/torchvision/{file.name}, and DISTILL_BENCH_OFFLINE is set\. Put file:"
    with pytest.raises(DataError, match=message):
        get_or_train_teacher(data(digits), ADOPTED, 0)
    (home / "pretrained/torchvision").mkdir()
    (home / "pretrained/torchvision" / file.name).write_bytes(file.read_bytes())
    assert get_or_train_teacher(data(digits), ADOPTED, 0).accuracy > 90.0


def test_a_damaged_download_is_refused(digits, stub):
    file, _ = stub
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"the download failed \(invalid hash value"):
        get_or_train_teacher(data(digits), ADOPTED, 0)


def test_damaged_or_other_weights_are_refused(digits, stub, home):
    file, _ = stub
    kept = home / "pretrained/torchvision" / file.name
    kept.parent.mkdir()
    kept.write_bytes(b"hello")
    with pytest.raises(DataError, match="cannot be read"):
        get_or_train_teacher(data(digits), ADOPTED, 0)
    torch.save({"0.weight": torch.ones(1)}, kept)  # the name says another sum
    with pytest.raises(DataError, match=r"sha256 does not begin with [0-9a-f]{8}.*Delete it"):
        get_or_train_teacher(data(digits), ADOPTED, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": "torchvision:ResNet18_Weights.DEFAULT"}, r"Known: torchvision:ResNet18_Weights\.IMAGENET1K_V1"),
        ({"weights": STUB, "network": "ConvNetD1W4"}, "weights of ConvNetD1W8BN, not of ConvNetD1W4"),
        ({"weights": "torchvision:ResNet18_Weights.IMAGENET1K_V1", "network": "ResNet18BN_ImageNet"},
         "tells 1000 classes apart; digits has 10"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_before_they_are_fetched(digits, stub, values, message, monkeypatch):
    if "ResNet18BN" in values.get("network", ""):
        monkeypatch.undo()
    with pytest.raises(UsageError, match=message):
        get_or_train_teacher(data(digits), TeacherRecipe(**values), 0)


def test_the_known_weights_are_those_of_our_network():
    found = weights.find_weights("torchvision:ResNet18_Weights.IMAGENET1K_V1")
    assert (found.network, found.classes, found.accuracy) == ("ResNet18BN_ImageNet", 1000, 69.758)
    assert found.url == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    with torch.device("meta"):
        state = resnet18().state_dict()
        expected = ARCHITECTURES["ResNet18BN_ImageNet"].build((3, 224, 224), 1000).state_dict()
    assert {name: t.shape for name, t in weights.as_network(state).items()} == {n: t.shape for n, t in expected.items()}


def test_a_network_from_outside_is_refused_before_it_is_imported(digits):
    with pytest.raises(UsageError, match=r"own:net is not one of this project's: teachers are made with these alone"):
        get_or_train_teacher(data(digits), QUICK.model_copy(update={"network": "own:net"}), 0)
    with pytest.raises(UsageError, match=r"own:net is not one of this project's: experts are made with these alone"):
        experts.parameter_shapes(data(digits), "own:net")


@pytest.mark.parametrize("method", ["herding", "el2n", "rded"])
def test_a_teacher_of_one_class_is_refused_before_it_is_trained(digits, method):
    with pytest.raises(UsageError, match="digits has one class"):
        synthesize(digits.with_classes(["3"]), method, 1, "test")
    assert list_teachers() == []
