"""All that computes, on a pretend accelerator: the same bytes as on the CPU, and how often the host waits a step."""

import importlib
from collections import Counter, defaultdict
from contextlib import contextmanager

import pytest
import torch
from pretend_accelerator import pretend_accelerator
from pretraining import StopsAfter

from distill_bench import synthesize
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import Interrupted
from distill_bench.evaluation import PROTOCOLS, Protocol, evaluate, evaluate_full
from distill_bench.methods.recipe import TEST, list_recipes
from distill_bench.pretrained.experts import ExpertRecipe, get_or_train_experts
from distill_bench.pretrained.teachers import TeacherRecipe, get_or_train_teacher
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.progress import SilentMonitor

EVALUATION = importlib.import_module("distill_bench.evaluation.evaluate")


class Waits(SilentMonitor):
    """Notes how often the host waited in each step of every stage; the first begins with the stage."""

    def __init__(self, accelerator):
        self._accelerator, self._seen = accelerator, Counter()
        self.steps = defaultdict(list)

    @contextmanager
    def stage(self, title, total, done=0):
        self._title, outer = title, getattr(self, "_title", None)
        self._take()
        yield self
        self._title = outer

    def advance(self, steps=1):
        self.steps[self._title].append(self._take())

    def note(self, text): ...

    def _take(self):
        now = self._accelerator.waits + self._accelerator.uploads
        new, self._seen = now - self._seen, now
        return new


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """One for each device, so that each trains its own teachers."""
    return {device: tmp_path_factory.mktemp(device) for device in ("cpu", "gpu")}


@pytest.fixture
def both(homes, monkeypatch):
    """Do the same on both devices, each with a home of its own: what comes out, and the steps' waits."""

    def run(work):
        monkeypatch.setenv("DISTILL_BENCH_HOME", str(homes["cpu"]))
        ours = work("cpu", SilentMonitor())
        monkeypatch.setenv("DISTILL_BENCH_HOME", str(homes["gpu"]))
        with pretend_accelerator() as accelerator:
            monitor = Waits(accelerator)
            theirs = work("gpu", monitor)
        return ours, theirs, monitor.steps

    return run


ONCE = 1, ""
BATCHES = 2, "in a batch's first step, because the batch before it comes to the CPU"
WAITS_A_STEP = {"sre2l": BATCHES, "cda": BATCHES, "a gate": (2, "because the loss decides whether anything is updated")}


def check_waits(stages, most, why, begins=""):
    """No step of these stages waits more often, and one does so often: what the table says is still true."""
    steps = [step for title, own in stages.items() if title.startswith(begins) for step in own]
    worst = max(steps, key=Counter.total, default=None)
    assert worst is None or worst.total() == most, f"{worst}, where {most} was known {why}"


def set_and_losses(digits, method, **fields):
    def make(device, monitor):
        losses = []
        made = synthesize(digits, method, 2, TEST, device=device, monitor=monitor, history=losses, **fields)
        return made.to_bytes(), losses

    return make


@pytest.mark.parametrize("method", list_recipes())
def test_a_method_makes_the_same_set_and_waits_once_a_step(both, digits, method):
    ours, theirs, steps = both(set_and_losses(digits, method))
    assert ours == theirs
    check_waits(steps, *WAITS_A_STEP.get(method, ONCE), begins=f"{method}, ")


def test_a_method_that_branches_on_its_loss_waits_for_it(both, digits):
    ours, theirs, steps = both(set_and_losses(digits, "mtt", loss_gate=1e3))
    assert ours == theirs
    check_waits(steps, *WAITS_A_STEP["a gate"], begins="mtt, ")


def test_chunks_wait_no_more(both, digits):
    ours, theirs, steps = both(set_and_losses(digits, "dm", chunk=7))
    assert ours == theirs
    check_waits(steps, *ONCE)


@pytest.mark.parametrize("method", ["dc", "datm", "cda"])
def test_work_that_was_stopped_goes_on_where_it_was(both, digits, method, tmp_path):
    """Checkpoints hold tensors of the CPU, whatever made them: of images, networks, labels and optimisers."""

    def make(device, monitor):
        kept = Checkpoint(tmp_path / f"{device}.safetensors", every_seconds=1e9)
        synthesize(digits, method, 1, TEST, device=device)  # so that it is not a teacher's training that is stopped
        with pytest.raises(Interrupted):
            synthesize(digits, method, 2, TEST, device=device, monitor=StopsAfter(2), checkpoint=kept)
        return synthesize(digits, method, 2, TEST, device=device, checkpoint=kept).to_bytes()

    ours, theirs, _ = both(make)
    assert ours == theirs == synthesize(digits, method, 2, TEST, device="cpu").to_bytes()


PRETRAINED = {
    "a teacher": lambda data, monitor: (
        get_or_train_teacher(
            data,
            TeacherRecipe(network="ConvNetD1W4BN", epochs=6, learning_rate=0.1, augment="none"),
            1,
            monitor=monitor,
        ).pretrained
    ),
    "an expert": lambda data, monitor: get_or_train_experts(
        data, "ConvNetD1W4", ExpertRecipe(epochs=2, learning_rate=0.1), 1, monitor=monitor
    ).pieces[0],
    "an expert of a flat trajectory": lambda data, monitor: get_or_train_experts(
        data, "ConvNetD1W4", ExpertRecipe(epochs=2, learning_rate=0.1, rho=0.5, alpha=0.3), 1, monitor=monitor
    ).pieces[0],
}


@pytest.mark.parametrize("kind", ["normalized", "zca"])
@pytest.mark.parametrize("what", PRETRAINED)
def test_what_is_pretrained_is_the_same(both, digits, what, kind):
    def make(device, monitor):
        data = TrainingData(digits, pixel_space_of(digits, kind), torch.device(device))
        return PRETRAINED[what](data, monitor).path.read_bytes()

    ours, theirs, steps = both(make)
    assert ours == theirs
    kept = 2, "because an expert's parameters are kept after every epoch"
    check_waits(steps, *(ONCE if what == "a teacher" else kept))


SETS = {
    "hard": ("random", {}),
    "logits": ("random-soft", {"labels": "soft"}),
    "teacher": ("random-soft", {"labels": "teacher"}),
    "recorded": ("random-soft", {"labels": "recorded"}),
    "a learned rate": ("mtt", {}),
    "whitened": ("random-zca", {}),
}
HOW = {
    "dsa": {},
    "none": {"augmentation": "none", "momentum": 0.9, "decay_after": 1, "reset_momentum": True},
    "dc": {"augmentation": "dc", "dc_operations": ("crop", "scale", "rotate")},
    "views": {"augmentation": "views", "optimizer": "adamw", "annealing": 1.0, "learning_rate": 0.001},
    "mixup": {"augmentation": "views", "views": {"crop": "padded", "mix": "mixup", "beta": 0.8}},
}
EVALUATIONS = [(kind, "dsa") for kind in SETS] + [("hard", how) for how in HOW if how != "dsa"] + [("full", "dsa")]


@pytest.fixture
def scored(both, digits, monkeypatch):
    """A score on both devices, and with it the loss of every network at the end of its training."""

    def run(kind, how):
        rules = {"source": "a test", "network": "ConvNetD1W8", "epochs": 3, "networks": 2, "learning_rate": 0.05}
        whole = {"trains_on": "full"} if kind == "full" else {}
        rules = Protocol(id="brief", batch_size=8 if kind != "full" else 500, **(rules | HOW[how] | whole))
        monkeypatch.setitem(PROTOCOLS, "brief", rules)
        losses, train = [], EVALUATION.train
        monkeypatch.setattr(EVALUATION, "train", lambda *told, **named: losses.append(train(*told, **named)))
        made = None if kind == "full" else synthesize(digits, SETS[kind][0], 1, TEST, device="cpu", **SETS[kind][1])

        def score(device, monitor):
            losses.clear()
            how = {"device": device, "monitor": monitor}
            found = evaluate_full(digits, "brief", **how) if made is None else evaluate(made, digits, "brief", **how)
            return found.model_dump(exclude={"run"}), list(losses)

        return both(score)

    return run


@pytest.mark.parametrize(("kind", "how"), EVALUATIONS)
def test_an_evaluation_finds_the_same_and_waits_once_an_epoch(scored, kind, how):
    ours, theirs, steps = scored(kind, how)
    assert ours == theirs
    check_waits(steps, *ONCE)
    assert len(ours[1]) == 2
