"""A run that diverged ends with exit code 1 and keeps nothing; one that may have says so wherever its set is named."""

import json

import pytest
import torch

from distill_bench import DistilledSet, RunFailed, UsageError, load_distilled, synthesize
from distill_bench.datasets.pixel_space import Transform, pixel_space_of
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.pixel_diagnostics import FARTHEST, STRONGEST, largest_value
from distill_bench.evaluation import PROTOCOLS
from distill_bench.evaluation.doubts import pixel_notes
from distill_bench.methods import SynthesisResult, load_method, method, synthesis_key
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import MatchingConfig

BRIEF = ["--preset", "cpu", "--set", "iterations=6", "--set", "network=ConvNetD2W4", "--set", "real_batch=8"]


class Own(MatchingConfig):
    iterations: int = 6
    image_lr: float = 0.5
    what: str = ""
    value: float = 0.0


class Runs(Objective):
    """Adds to what it learns until it has the value asked for."""

    def __init__(self, job, learnables):
        self.config, self.learnables = job.config, learnables

    def loss_and_grads(self, step):
        towards = -self.config.value / self.config.iterations / self.config.image_lr
        return 1.0, {
            name: torch.full_like(t, towards) for name, t in self.learnables.items() if name == self.config.what
        }


@method(Own)
def runs(job):
    images = torch.zeros(len(job.labels), *job.training.shape)
    labels, rate = torch.zeros(len(images), job.classes), torch.tensor(0.01)
    learnables = {"images": images, "labels": labels, "learning_rate": rate}
    optimizers = {name: torch.optim.SGD([tensor], lr=job.config.image_lr) for name, tensor in learnables.items()}
    optimise(job, Runs(job, learnables), learnables, optimizers, job.config.iterations)
    return SynthesisResult(images, job.labels, labels, "logits", float(rate))


@method(Own)
def returns(job):
    """No loop: what is returned has the value."""
    value, shape = job.config.value, (len(job.labels), *job.training.shape)
    images = job.training.images(torch.arange(len(job.labels)))
    images = images + torch.where(torch.arange(shape[-1]) % 2 == 0, value, -value)
    return SynthesisResult(images, job.labels)


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "networks": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)


@pytest.mark.parametrize("method", ["dm", "dc", "datadam"])
@pytest.mark.parametrize("rate", ["1e4", "1e6", "1e12"])
def test_images_far_outside_the_range_of_real_ones_end_a_run_and_leave_no_file(command, tmp_path, method, rate):
    out = tmp_path / "wild.safetensors"
    words = ["synthesize", method, "--dataset", "digits", "--ipc", 1, "--out", out, "--quiet", *BRIEF]
    code, said, error = command(*words, "--set", f"image_lr={rate}")
    assert (code, said) == (1, "")
    assert "exploded" in error or "finite" in error
    assert f"Lower --set image_lr=… (now {float(rate)})" in error
    assert not out.exists() and not out.with_suffix(".run.json").exists()


@pytest.mark.parametrize(
    ("what", "good", "wild"),
    [("images", 500.0, 600.0), ("labels", 9e3, 1.1e4), ("learning_rate", 90.0, 110.0)],
)
def test_every_kind_of_learnable_has_its_own_bound(digits, what, good, wild):
    name = f"{__name__}:runs"
    assert synthesize(digits, name, 1, what=what, value=good).card.seed == 0
    with pytest.raises(RunFailed, match=rf"failed at step 5 of 6: {what} \(up to .*\) exploded"):
        synthesize(digits, name, 1, what=what, value=wild)


@pytest.mark.parametrize("kind", ["unit", "normalized", "zca"])
def test_what_a_method_without_the_loop_returns_has_the_same_bound_in_every_space(digits, kind):
    name, options = f"{__name__}:returns", {"pixel_space": kind}
    assert synthesize(digits, name, 1, value=3.0, **options).card.pixel_space.kind == kind
    with pytest.raises(RunFailed, match=rf"its pixels go from .*, those of real images from 0 to 1.*\({kind}\)"):
        synthesize(digits, name, 1, value=2e5, **options)
    with pytest.raises(RunFailed, match="image values are NaN or infinite"):
        synthesize(digits, name, 1, value=float("inf"), **options)


def test_the_bound_is_the_same_distance_in_units_and_in_pixels(digits):
    for kind in ("unit", "normalized"):
        space = pixel_space_of(digits, kind)
        edge = torch.full((1, 1, 1, 1), largest_value(space))
        assert FARTHEST <= float(Transform(space, None).decode(edge)) <= FARTHEST + 2


def test_a_cell_that_diverged_keeps_no_set_and_no_score(command, tmp_path):
    (tmp_path / "wild.toml").write_text(
        'title = "t"\ndatasets = ["digits"]\nipc = [1]\nreference = "none"\n'
        f'methods = ["random", "{__name__}:wild"]\nprotocols = ["quick-v1"]\n'
    )
    results = tmp_path / "results"
    code, said, _ = command("bench", tmp_path / "wild.toml", "--executor", "in-process", "--results", results, "--json")
    assert code == 1
    assert {row["method"]: row["status"] for row in json.loads(said)} == {
        "random": "done",
        f"{__name__}:wild": "failed",
    }
    assert len(list((tmp_path / "home/store/sets").glob("*.safetensors"))) == 1


def wild(job):
    return torch.full((len(job.labels), *job.training.shape), 1e5)


@pytest.mark.parametrize("kind", ["unit", "normalized", "zca"])
def test_contrast_that_no_picture_has_is_said_at_the_end_of_synthesis_and_beside_every_number(command, tmp_path, kind):
    out = tmp_path / "strong.safetensors"
    words = ["synthesize", "--method", f"{__name__}:returns", "--dataset", "digits", "--ipc", 1, "--out", out]
    code, said, _ = command(*words, "--quiet", "--set", "value=15.0", "--set", f"pixel_space={kind}")
    doubt = "times that of real images, usual is 8 at most: synthesis may have run away from them"
    assert code == 0
    (note,) = [line for line in said.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: the images' contrast is ") and note.endswith(doubt)
    assert note in command("evaluate", out, "--protocol", "quick-v1", "--quiet")[1].splitlines()
    assert note[6:] in json.loads(command("evaluate", out, "--protocol", "quick-v1", "--json", "--quiet")[1])["notes"]


@pytest.mark.parametrize("method", ["random", "random-zca", "dm", "datadam"])
def test_sets_of_sound_runs_carry_no_doubt(digits, method):
    brief = {"iterations": 20, "network": "ConvNetD2W4"} if method in ("dm", "datadam") else {}
    made = synthesize(digits, method, 1, "cpu" if brief else "paper", **brief)
    assert pixel_notes(made, digits) == ()


def test_a_strong_set_of_somebody_else_keeps_the_bounds_of_its_space(digits):
    made = synthesize(digits, f"{__name__}:returns", 1, value=1.5, pixel_space="unit")  # contrast about 4
    other = DistilledSet(made.images, made.labels, made.card.model_copy(update={"seed": None}))
    assert pixel_notes(made, digits) == ()
    assert any("contrast is 4" in note for note in pixel_notes(other, digits))
    assert STRONGEST == 8.0


# ---- going on from a finished set


def going_on(digits, path, method="dm", **more):
    return synthesize(digits, method, 1, "cpu", init=str(path), network="ConvNetD1W4", **{"iterations": 2} | more)


@pytest.fixture
def first(digits, tmp_path):
    synthesize(digits, "dm", 1, "cpu", iterations=2, network="ConvNetD1W4").save(tmp_path / "first.safetensors")
    return tmp_path / "first.safetensors"


def test_synthesis_goes_on_from_a_finished_set_and_the_card_says_from_which(digits, first, tmp_path):
    made, before = going_on(digits, first, image_lr=1e-30), load_distilled(first)
    assert torch.equal(made.images, before.images)
    assert made.card.recipe["init"] == f"sha256:{before.sha256}"
    assert not torch.equal(going_on(digits, first).images, before.images)
    copied = tmp_path / "elsewhere.safetensors"
    copied.write_bytes(first.read_bytes())
    assert going_on(digits, copied).to_bytes() == going_on(digits, first).to_bytes()


def test_the_address_of_a_set_that_goes_on_has_the_other_ones_content(digits, first):
    method = load_method("dm")

    def address():
        return synthesis_key(digits, method, method.config("digits", 1, "cpu", init=str(first)), Budget(1), "cpu", 0)

    before = address()
    synthesize(digits, "random", 1).save(first)
    assert address() != before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ipc": 2}, "images, labels"),
        ({"pixel_space": "unit"}, "pixel space"),
        ({"holdout": 0.2}, "training split"),
    ],
)
def test_a_set_of_another_kind_to_go_on_from_is_refused_with_what_differs(digits, first, options, said):
    source = digits.with_holdout(0.2) if options.pop("holdout", None) else digits
    with pytest.raises(UsageError, match=f"Different are its .*{said}: it has 10 classes, ipc 1, 10 images of 1×8×8"):
        synthesize(source, "dm", options.pop("ipc", 1), "cpu", init=str(first), iterations=1, **options)


@pytest.mark.parametrize("method", ["dm", "dc", "mtt"])
@pytest.mark.parametrize(
    ("init", "said"),
    [
        ("none.safetensors", "no such file"),
        ("nope", "unknown start 'nope'.* Known: real, "),
        (".", "a finished set.s .safe"),
    ],
)
def test_what_is_no_set_to_go_on_from_is_refused_with_what_is_allowed(digits, method, init, said):
    with pytest.raises(UsageError, match=said):
        synthesize(digits, method, 1, "cpu", init=init)


def test_the_set_to_go_on_from_is_not_written_over(command, first):
    before = first.read_bytes()
    words = ["synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--preset", "cpu", "--out", first]
    code, _, error = command(*words, "--set", f"init={first}")
    assert (code, "it would be replaced" in error, first.read_bytes() == before) == (2, True, True)


@pytest.mark.parametrize(
    ("init", "said"),
    [
        (
            "k-mean",
            "init: unknown start 'k-mean'. Did you mean k-means? Known: real, k-center, k-means, noise, or a ",
        ),
        ("set.safetensor", "unknown start 'set.safetensor'"),
        ("missing.safetensors", "missing.safetensors: no such file"),
    ],
)
def test_a_start_that_is_none_is_answered_with_those_there_are(command, tmp_path, init, said):
    words = ["synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--out", tmp_path / "x.safetensors"]
    code, _, error = command(*words, "--set", f"init={init}")
    assert (code, said in error, ".." in error, "literal" in error) == (2, True, False, False)
