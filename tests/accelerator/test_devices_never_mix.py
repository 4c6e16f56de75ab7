"""All that computes, on a pretend accelerator: the same bytes as on the CPU, and how often the host waits a step."""

from collections import Counter, defaultdict
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from pretend_accelerator import DEVICE, pretend_accelerator
from pretraining import StopsAfter

from distill_bench import load_dataset, synthesize
from distill_bench.augmentations import dsa
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import Interrupted
from distill_bench.evaluation import PROTOCOLS, Protocol, evaluate, evaluate_full, scoring
from distill_bench.evaluation.teachers import score_teacher
from distill_bench.methods import load_method
from distill_bench.methods.recipe import TEST, list_recipes, recipe_file
from distill_bench.pretrained.experts import ExpertRecipe, get_or_train_experts
from distill_bench.pretrained.teachers import TeacherRecipe, get_or_train_teacher
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.progress import SilentMonitor
from distill_bench.runtime.seeds import generator


class CountsWaits(SilentMonitor):
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
            monitor = CountsWaits(accelerator)
            theirs = work("gpu", monitor)
        return ours, theirs, monitor.steps

    return run


CONFIGS = {name: load_method(name).config("digits", 1, TEST) for name in list_recipes()}
BRIEF = {name: {"iterations": 2} for name, config in CONFIGS.items() if hasattr(config, "iterations")}
BRIEF |= {name: {"iterations": 1} for name, config in CONFIGS.items() if hasattr(config, "outer_loop")}
BRIEF |= {"rded": {"crops": 2, "pool": 40}}
OTHER_CODE = ("fyi-dm", "fyi-mtt", "at-bptt", "nrr-dd-distances")
"""Of variants, which differ from their base in values, those that run other code too."""
CASES = {name: (name, {}) for name in list_recipes() if recipe_file(name).stem == name or name in OTHER_CODE} | {
    "a gate": ("mtt", {"loss_gate": 1e3}),
    "chunks": ("dm", {"chunk": 7}),
    "batch norm": ("dc", {"network": "ConvNetD2W4BN"}),
    "chosen images": ("dm", {"init": "k-means", "pixel_space": "zca"}),
    "clipped whitened pixels": ("sre2l", {"pixel_space": "zca"}),
    "hard labels": ("random-soft", {"labels": "hard"}),
}
ONCE = 1, ""
BATCHES = 2, "in a batch's first step, because the batch before it comes to the CPU"
WAITS = {
    "sre2l": BATCHES,
    "cda": BATCHES,
    **dict.fromkeys(("nrr-dd", "nrr-dd-distances"), (3, "of a class, because crops not taken for it are left out")),
    "reinforce": (2, "of an epoch of labels, of which every batch comes to the CPU"),
    "infer": (2, "in the first step of a compensator, because the one before it comes to the CPU"),
    "at-bptt": (2, "in the first step of a pass, because the lengths of the probe's gradients come to the CPU"),
    "a gate": (2, "because whether anything is updated depends on the loss"),
    "clipped whitened pixels": (4, "and to and from the CPU, which has the matrices of the whitening"),
    "an expert": (2, "because all parameters are kept after every epoch"),
    "an expert of a flat trajectory": (2, "because all parameters are kept after every epoch"),
}
"""How often the host waits in a step, where not once, and why. Steps of what is pretrained or evaluated are epochs."""


def check_waits(stages, case, begins=""):
    """No step of these stages waits more often than said, and one does so often: the table says nothing outlived."""
    steps = [step for title, own in stages.items() if title.startswith(begins) for step in own]
    worst, (most, why) = max(steps, key=Counter.total, default=None), WAITS.get(case, ONCE)
    assert worst is None or worst.total() == most, f"{worst}, where {most} was known {why}"


@pytest.mark.parametrize("case", CASES)
def test_a_method_makes_the_same_set_and_waits_once_a_step(both, digits, case):
    method, fields = CASES[case]

    def make(device, monitor):
        losses, how = [], {"device": device, "monitor": monitor}
        made = synthesize(digits, method, 2, TEST, history=losses, **how, **BRIEF.get(method, {}), **fields)
        return made.to_bytes(), losses

    ours, theirs, steps = both(make)
    assert ours == theirs
    check_waits(steps, case, begins=f"{method}, ")


@pytest.mark.parametrize("always_flip", [False, True])
def test_parameters_of_an_augmentation_are_sent_in_one_copy(always_flip):
    images, seen = torch.rand(5, 3, 8, 8, generator=generator("images")), set()
    with pretend_accelerator() as accelerator:
        for index in range(40):
            drawn = dsa.sample(dsa.OPERATIONS, 5, (3, 8, 8), generator("augment", index), always_flip)
            before, sent = accelerator.copies, drawn.to(torch.device(DEVICE))
            assert accelerator.copies - before == 1 + always_flip
            there, onto = dsa.apply(sent, images.to(DEVICE)), accelerator.copies
            assert torch.equal(there.cpu(), dsa.apply(drawn, images))
            assert onto == before + 1 + always_flip
            seen.add(drawn.operation)
    assert len(seen) == len(dsa.OPERATIONS) - always_flip


@pytest.mark.parametrize("method", ["dc", "datm", "cda"])
def test_work_that_was_stopped_goes_on_where_it_was(both, digits, method, tmp_path):
    """Checkpoints hold tensors of the CPU, whatever made them: of images, networks, labels and optimisers."""

    def make(device, monitor):
        def work(**how):
            return synthesize(digits, method, 1, TEST, device=device, **BRIEF[method], **how).to_bytes()

        whole, kept = work(), Checkpoint(tmp_path / f"{device}.safetensors", every_seconds=1e9)
        with pytest.raises(Interrupted):
            work(monitor=StopsAfter(1), checkpoint=kept)
        return whole, work(checkpoint=kept)

    ours, theirs, _ = both(make)
    assert len({*ours, *theirs}) == 1


def an_expert(data, monitor, **recipe):
    recipe = ExpertRecipe(epochs=2, learning_rate=0.1, **recipe)
    return get_or_train_experts(data, "ConvNetD1W4", recipe, 1, monitor=monitor).pieces[0].path.read_bytes()


def a_teacher(data, monitor):
    recipe = TeacherRecipe(network="ConvNetD1W4BN", epochs=6, learning_rate=0.1, augment="none")
    teacher = get_or_train_teacher(data, recipe, 1, monitor=monitor)
    return teacher.pretrained.path.read_bytes(), score_teacher(teacher, load_dataset("digits"), str(data.device))


PRETRAINED = {
    "a teacher": a_teacher,
    "an expert": an_expert,
    "an expert of a flat trajectory": partial(an_expert, rho=0.5, alpha=0.3),
}


@pytest.mark.parametrize("kind", ["normalized", "zca"])
@pytest.mark.parametrize("what", PRETRAINED)
def test_what_is_pretrained_is_the_same(both, digits, what, kind):
    def make(device, monitor):
        data = TrainingData(digits, pixel_space_of(digits, kind), torch.device(device))
        return PRETRAINED[what](data, monitor)

    ours, theirs, steps = both(make)
    assert ours == theirs
    check_waits(steps, what)


SETS = {
    "hard": ("random", {}),
    "logits": ("random-soft", {"labels": "soft"}),
    "teacher": ("random-soft", {"labels": "teacher"}),
    "recorded": ("random-soft", {"labels": "recorded"}),
    "distances": ("random-soft", {"labels": "distances"}),
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
        losses, train = [], scoring.train
        monkeypatch.setattr(scoring, "train", lambda *told, **named: losses.append(train(*told, **named)))
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
    check_waits(steps, "an evaluation")
    assert len(ours[1]) == 2
