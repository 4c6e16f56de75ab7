"""Experts: what their snapshots are, flat ones, the store they share, and those that others trained."""

import math
import os
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from distill_bench import DataError, Interrupted, UsageError, synthesize
from distill_bench.augmentations import dsa
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.hub.formats.replay_buffer import import_experts
from distill_bench.networks import build_network
from distill_bench.pretrained import experts
from distill_bench.pretrained.experts import ExpertRecipe, adopted_experts, get_or_train_experts, list_experts
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.progress import SILENT, SilentMonitor
from distill_bench.runtime.seeds import generator
from distill_bench.training.sharpness_aware import flat_direction, gsam_gradient, perturbation
from distill_bench.training.train import Plan, table_batches, train

NETWORK = "ConvNetD1W4"
QUICK = ExpertRecipe(epochs=3, batch_size=128, learning_rate=0.05)
FLAT = QUICK.model_copy(update={"rho": 0.01, "alpha": 0.3})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def data(source, kind="normalized"):
    return TrainingData(source, pixel_space_of(source, kind), torch.device("cpu"))


@pytest.fixture
def training(digits):
    return data(digits)


# ---- the direction of a flat step, against NumPy on all values as one vector


def values(name):
    shapes = [(3, 2), (4,), (2, 2)]
    return [torch.randn(s, generator=generator(name, i), dtype=torch.float64) for i, s in enumerate(shapes)]


def flat(tensors):
    return numpy.concatenate([tensor.numpy().ravel() for tensor in tensors])


def test_the_perturbation_is_adaptive_and_of_size_rho():
    weights, gradients = values("weights"), values("gradients")
    w, g = flat(weights), flat(gradients)
    expected = 0.01 * w * w * g / numpy.linalg.norm(numpy.abs(w) * g)
    numpy.testing.assert_allclose(flat(perturbation(weights, gradients, 0.01)), expected, rtol=1e-10)


def test_the_flat_direction_takes_off_what_is_orthogonal():
    plain, sharp = values("plain"), values("sharp")
    g0, g1 = flat(plain), flat(sharp)
    cosine = g0 @ g1 / numpy.linalg.norm(g0) / numpy.linalg.norm(g1)
    orthogonal = g0 - cosine * numpy.linalg.norm(g0) * g1 / numpy.linalg.norm(g1)
    assert abs(orthogonal @ g1) < 1e-12
    numpy.testing.assert_allclose(flat(flat_direction(plain, sharp, 0.3)), g1 - 0.3 * orthogonal, rtol=1e-10)
    numpy.testing.assert_allclose(flat(flat_direction(plain, sharp, 0.0)), g1, rtol=1e-12)


def test_a_flat_step_takes_both_gradients_of_the_same_batch_and_leaves_the_parameters():
    network = nn.Linear(6, 3).to_empty(device="cpu").double()
    for number, parameter in enumerate(network.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=generator("w", number), dtype=torch.float64)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    x, y = torch.randn(5, 6, generator=generator("x"), dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    gsam_gradient(0.05, 0.3)(network, lambda: cross_entropy(network(x), y))

    def gradient(weight, bias):
        weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        loss = -(x @ weight.T + bias).log_softmax(1)[torch.arange(5), y].mean()
        return list(torch.autograd.grad(loss, [weight, bias]))

    plain = gradient(*before)
    shifted = [w + e for w, e in zip(before, perturbation(before, plain, 0.05), strict=True)]
    expected = flat_direction(plain, gradient(*shifted), 0.3)
    for parameter, kept, direction in zip(network.parameters(), before, expected, strict=True):
        assert torch.equal(parameter, kept)
        torch.testing.assert_close(parameter.grad, direction, rtol=1e-10, atol=0)


def test_a_flat_step_is_right_where_gradients_lie_otherwise_in_memory():
    """As those of compiled code do; torch's fused optimizers take them by their place in memory."""
    network = nn.Conv2d(2, 3, 2, bias=False)
    network.weight.data = torch.randn(3, 2, 2, 2, generator=generator("w"))
    slopes, before = torch.randn(3, 2, 2, 2, generator=generator("slopes")), network.weight.detach().clone()

    def loss() -> torch.Tensor:
        return (network.weight.permute(0, 2, 3, 1).contiguous() * slopes.permute(0, 2, 3, 1).contiguous()).sum()

    (gradient,) = torch.autograd.grad(loss(), [network.weight])
    assert gradient.stride() != network.weight.stride()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, fused=True)
    gsam_gradient(0.01, 0.3)(network, loss)
    optimizer.step()
    torch.testing.assert_close(network.weight.detach(), before - 0.5 * slopes)  # linear: flat or not, the slope


# ---- trajectories


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_snapshot_is_the_network_after_so_many_epochs_of_plain_training(training, epoch):
    found = get_or_train_experts(training, NETWORK, QUICK, 2)
    network = build_network("ConvNetD1W4", (1, 8, 8), 10, generator("expert", 1, "weights"))
    if epoch:
        plan = Plan(epochs=epoch, batch_size=128, learning_rate=0.05)
        draws = generator("expert", 1, "training")
        batches = table_batches(training.images, training.labels, dsa.augmentation(False))
        train(network, batches, len(training), plan, draws)
    assert torch.equal(found.snapshot(1, epoch), parameters_to_vector(network.parameters()).detach())
    assert found.epochs == 3 and len(found) == 2
    assert not torch.equal(found.snapshot(0, 0), found.snapshot(1, 0))


def test_flat_experts_start_alike_and_go_elsewhere(training):
    plain, other = get_or_train_experts(training, NETWORK, QUICK, 1), get_or_train_experts(training, NETWORK, FLAT, 1)
    assert torch.equal(plain.snapshot(0, 0), other.snapshot(0, 0))
    assert not torch.equal(plain.snapshot(0, -1), other.snapshot(0, -1))
    assert other.pieces[0].facts["losses"][-1] < other.pieces[0].facts["losses"][0]


def test_experts_are_trained_once_and_more_can_join_them(training, monkeypatch):
    trained = []
    original = experts._train
    monkeypatch.setattr(experts, "_train", lambda *given: trained.append(given[3]) or original(*given))
    first = get_or_train_experts(training, NETWORK, QUICK, 2)
    again = get_or_train_experts(training, NETWORK, QUICK, 3)
    assert trained == [0, 1, 2]
    assert [piece.path for piece in again.pieces[:2]] == [piece.path for piece in first.pieces]


def test_experts_depend_on_data_pixel_space_and_recipe(digits, training):
    others = [
        (data(digits, "zca"), NETWORK, QUICK),
        (data(digits.with_holdout(0.2)), NETWORK, QUICK),
        (training, NETWORK, QUICK.model_copy(update={"epochs": 2})),
        (training, NETWORK, FLAT),
        (training, NETWORK, FLAT.model_copy(update={"alpha": 1.0})),
        (training, NETWORK + "BN", QUICK),
    ]
    paths = {get_or_train_experts(*other, 1).pieces[0].path for other in others}
    assert len(paths | {get_or_train_experts(training, NETWORK, QUICK, 1).pieces[0].path}) == len(others) + 1


def test_alpha_makes_no_other_plain_experts(training):
    plain = get_or_train_experts(training, NETWORK, QUICK, 1)
    assert get_or_train_experts(training, NETWORK, FLAT.model_copy(update={"rho": 0.0}), 1).pieces == plain.pieces


class StopsAfter(SilentMonitor):
    """Asks to stop once so many epochs are done."""

    def __init__(self, epochs):
        self._left, self.stop_requested = epochs, False

    @contextmanager
    def stage(self, title, total, done=0):
        yield self

    def advance(self, steps=1):
        self._left -= steps
        self.stop_requested = self._left <= 0

    def note(self, text): ...


@pytest.mark.parametrize(
    ("recipe", "after"), [(QUICK.model_copy(update={"momentum": 0.9}), 1), (FLAT, 2), (FLAT, 4)],
    ids=["momentum-1", "flat-2", "flat-4"],
)  # fmt: skip
def test_stopped_training_goes_on_to_the_same_bytes(training, recipe, after, home, monkeypatch):
    with pytest.raises(Interrupted):
        get_or_train_experts(training, NETWORK, recipe, 2, monitor=StopsAfter(after))
    resumed = [piece.path.read_bytes() for piece in get_or_train_experts(training, NETWORK, recipe, 2).pieces]
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(home.parent / "another"))
    assert [piece.path.read_bytes() for piece in get_or_train_experts(training, NETWORK, recipe, 2).pieces] == resumed


def test_an_expert_is_the_same_whichever_are_trained_with_it(training, monkeypatch, home):
    (second,) = get_or_train_experts(training, NETWORK, QUICK, [1]).pieces
    assert second.path == experts.expert_path(training, NETWORK, QUICK, 1)
    alone = second.path.read_bytes()
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(home.parent / "another"))
    pieces = get_or_train_experts(training, NETWORK, QUICK, 2).pieces
    assert [piece.identity["index"] for piece in pieces] == [0, 1]
    assert pieces[1].path.read_bytes() == alone


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
def test_a_snapshot_fills_memory_with_itself_alone(training):
    found = experts.adopt_experts(training, "ConvNetD1W4", [torch.ones(32, 2**20)], 1, "large")

    def resident():
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile"))) * 1024

    before = resident()
    snapshot = found.snapshot(0, 7)
    assert snapshot.sum() == 2**20
    assert resident() - before < 4 * 2**20 * 4  # the file has 32 of 4 MiB


# ---- experts of others


def buffer_of(found, count=2):
    """What buffer.py of MTT saves: trajectories of snapshots of lists of parameters."""
    network = build_network("ConvNetD1W4", (1, 8, 8), 10, generator("any"))
    sizes = [parameter.shape for parameter in network.parameters()]
    return [
        [
            [part.view(size).clone() for part, size in zip(row.split([s.numel() for s in sizes]), sizes, strict=True)]
            for row in (found.snapshot(expert, epoch) for epoch in range(found.epochs + 1))
        ]
        for expert in range(count)
    ]


def test_a_replay_buffer_comes_back_as_it_was(training, tmp_path):
    own = get_or_train_experts(training, NETWORK, QUICK, 2)
    files = [tmp_path / "replay_buffer_0.pt", tmp_path / "replay_buffer_1.pt"]
    for number, file in enumerate(files):
        torch.save(buffer_of(own)[number : number + 1], file)
    found = import_experts(files, training, "ConvNetD1W4")
    assert len(found) == 2 and found.epochs == 3
    for expert in range(2):
        for epoch in range(4):
            assert torch.equal(found.snapshot(expert, epoch), own.snapshot(expert, epoch))
    origin = found.pieces[0].identity["origin"]
    again = adopted_experts(training, "ConvNetD1W4", origin)
    assert [piece.path for piece in again.pieces] == [piece.path for piece in found.pieces]
    assert len(list_experts()) == 4


def test_imported_experts_are_for_one_data_pixel_space_and_network(digits, training, tmp_path):
    torch.save(buffer_of(get_or_train_experts(training, NETWORK, QUICK, 2)), tmp_path / "b.pt")
    origin = import_experts([tmp_path / "b.pt"], training, "ConvNetD1W4").pieces[0].identity["origin"]
    with pytest.raises(UsageError, match="other data, another pixel space or network"):
        adopted_experts(data(digits, "zca"), "ConvNetD1W4", origin)
    with pytest.raises(UsageError, match=f"no imported experts 'unknown'.*Known: {origin}"):
        adopted_experts(training, "ConvNetD1W4", "unknown")


def store_that_takes(count, monkeypatch):
    """The store is interrupted once it has so many more pieces."""
    taken, get_or_create = [], experts.get_or_create

    def limited(kind, identity, *rest, **options):
        if len(taken) == count:
            raise KeyboardInterrupt
        taken.append(identity)
        return get_or_create(kind, identity, *rest, **options)

    monkeypatch.setattr(experts, "get_or_create", limited)


def test_an_interrupted_import_is_not_used_until_it_is_done_again(training, tmp_path, monkeypatch):
    file = tmp_path / "replay_buffer_0.pt"
    torch.save([trajectory()] * 2, file)
    with monkeypatch.context() as patch:
        store_that_takes(1, patch)
        with pytest.raises(KeyboardInterrupt):
            import_experts([file], training, NETWORK)
    (piece,) = list_experts()
    origin = piece.identity["origin"]
    with pytest.raises(UsageError, match=r"are not complete.*Run distill-bench experts import again"):
        adopted_experts(training, NETWORK, origin)
    import_experts([file], training, NETWORK)
    assert len(adopted_experts(training, NETWORK, origin)) == 2


def test_imports_of_earlier_versions_are_not_used(training):
    identity = {**experts.ground_of(training), "network": NETWORK, "origin": "early", "index": 0}
    made = {experts.TRAJECTORY: torch.zeros(2, 3)}, {"epochs": 1}
    experts.get_or_create(experts.KIND, identity, lambda checkpoint: made, SILENT, dataset="digits")
    with pytest.raises(UsageError, match="or an earlier version did it"):
        adopted_experts(training, NETWORK, "early")


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/evil-was-run",))


def trajectory(change=lambda parts: parts, snapshots=2):
    """Of the network of these tests, as a replay buffer has it, with its last snapshot changed."""
    network = build_network(NETWORK, (1, 8, 8), 10, generator("any"))
    parts = [parameter.detach() for parameter in network.parameters()]
    return [parts] * (snapshots - 1) + [change(list(parts))]


def with_value(value):
    """The change that puts a value, in float64, into the last parameter."""
    return lambda parts: [*parts[:-1], torch.full_like(parts[-1], value, dtype=torch.float64)]


FLAT_SIZE = sum(part.numel() for part in trajectory()[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(3)}, "holds a dict of 1; a replay buffer is a list"),
        ([], "holds a list of 0"),
        ([3], "trajectory 0 is a int, not a list of snapshots"),
        ([[1, 2]], "trajectory 0 is a list of 2, not a list of snapshots, each the list of one network's parameters"),
        ([[[]]], "trajectory 0 is a list of 1, not a list of snapshots"),
        ([trajectory(lambda parts: [])], "trajectory 0 is a list of 2, not a list of snapshots"),
        ([trajectory(lambda parts: [*parts, 1])], "trajectory 0 is a list of 2, not a list of snapshots"),
        ([torch.zeros(3, FLAT_SIZE)], "trajectory 0 is a Tensor, not a list of snapshots"),
        ([list(torch.zeros(3, FLAT_SIZE))], "trajectory 0 is a list of 3, not a list of snapshots"),
        ([[]], "trajectory 0 has 0 snapshots; two are needed at least"),
        ([trajectory(), trajectory(snapshots=1)], "trajectory 1 has 1 snapshots; two are needed at least"),
        ([[[torch.zeros(3)]] * 3], "trajectory 0, snapshot 0 is a list of 1; ConvNetD1W4 on digits has 6 parameters"),
        (
            [trajectory(lambda parts: parts[::-1])],
            r"snapshot 1 has \(10,\) as the shape of parameter 0; ConvNetD1W4 on digits has \(4, 1, 3, 3\)",
        ),
        ([trajectory(lambda parts: [*parts, parts[-1]])], "snapshot 1 is a list of 7"),
        ([trajectory(), trajectory(with_value(math.nan))], "trajectory 1 has values that are not finite as float32"),
        ([trajectory(with_value(1e300))], "trajectory 0 has values that are not finite as float32"),
        (
            [[Evil()]],
            r"not on the list of harmless names.*save its tensors again: "
            r"torch.save\(\[\[list\(network.parameters\(\)\), …\], …\], FILE\)",
        ),
    ],
)
def test_other_files_are_refused_and_nothing_is_kept(training, content, message, tmp_path):
    files = [tmp_path / "good.pt", tmp_path / "other.pt"]
    torch.save([trajectory()] * 2, files[0])
    torch.save(content, files[1])
    with pytest.raises(DataError, match=rf"other\.pt: .*{message}"):
        import_experts(files, training, "ConvNetD1W4")
    assert list_experts() == []


def test_float64_is_kept_as_float32(training, tmp_path):
    torch.save([trajectory(with_value(0.1))], tmp_path / "b.pt")
    last = import_experts([tmp_path / "b.pt"], training, "ConvNetD1W4").snapshot(0, -1)
    assert last.dtype == torch.float32 and last[-1] == torch.tensor(0.1)


def test_a_missing_file_is_refused(training, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        import_experts([tmp_path / "absent.pt"], training, "ConvNetD1W4")


def test_experts_of_a_method_keep_checkpoints_as_often_as_it_does(digits, home, monkeypatch):
    fields = {"network": NETWORK, "experts": 1, "expert": QUICK.model_dump(), "segment": [0, 1, 1], "segment_epochs": 1}
    saved = []
    save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda kept, *state: saved.append(kept.path) or save(kept, *state))
    synthesize(digits, "mtt", 1, checkpoint=Checkpoint(every_seconds=0.0), iterations=1, student_steps=1, **fields)
    assert [path.parent.name for path in saved] == ["unfinished"] * QUICK.epochs
