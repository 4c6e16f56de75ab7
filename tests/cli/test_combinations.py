"""A value that is not allowed, or that would not be used, is refused by every command alike; nothing is done first."""

import pytest
import torch

from distill_bench import UsageError, evaluate, load_distilled, synthesize
from distill_bench.evaluation import evaluate_full
from distill_bench.evaluation.measures import transfer
from distill_bench.training.compilation import decide

SET = "set.safetensors"
MAKE = ["synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", "new.safetensors"]
FULL = ["evaluate", "--protocol", "full-v1", "--dataset", "digits"]

REFUSED = [
    # a value that is none of those allowed
    (["evaluate", SET, "--compile", "yes"], "--compile 'yes': give auto or on or off"),
    ([*FULL, "--compile", "yes"], "--compile 'yes': give auto or on or off"),
    (["bench", "digits", "--compile", "yes"], "--compile 'yes': give auto or on or off"),
    (["bench", "digits", "--compile", ""], "--compile '': give auto or on or off"),
    (["evaluate", SET, "--labels", "soft"], "--labels 'soft': give stored or hard"),
    ([*FULL, "--labels", "soft"], "--labels 'soft': give stored or hard"),
    (["measure", SET, "transfer", "--labels", "soft"], "--labels 'soft': give stored or hard"),
    (["measure", SET, "speed"], "unknown measure 'speed'"),
    (["measure", SET, "continual", "--steps", 11], "--steps 11: there are 10 classes; give 1 to 10 steps"),
    (["measure", SET, "nas", "--network", "MLP"], "an order needs two networks at least; got MLP"),
    (["measure", SET, "ars", "--protocol", "dc-v1"], "dc-v1 does not augment images of digits"),
    (["evaluate", SET, "--network", ""], "unknown network ''"),
    (["measure", SET, "transfer", "--network", ""], "unknown network ''"),
    (["evaluate", SET, "--protocol", ""], "unknown protocol ''"),
    (["measure", SET, "transfer", "--protocol", ""], "unknown protocol ''"),
    (["evaluate", SET, "--dataset", ""], "there is no dataset ''"),
    (["evaluate", SET, "--split", "train"], "--split 'train': give test or holdout"),
    (["measure", SET, "transfer", "--holdout", 1.5], "--holdout 1.5 is not a fraction"),
    (["evaluate", SET, "--holdout", "nan"], "--holdout nan is not a fraction"),
    (["evaluate", SET, "--size", -1], "--size -1 is out of range"),
    (["measure", SET, "transfer", "--networks", 0], "'--networks'"),
    (["measure", SET, "transfer", "--device", "gpu"], "unknown device 'gpu'"),
    (["synthesize", "random", "--dataset", "digits", "--ipc", -3, "--out", "new.safetensors"], "--ipc -3"),
    # two that contradict each other
    (["evaluate", SET, "--protocol", "full-v1"], "full-v1 scores a whole training split, not a distilled set"),
    (["evaluate", SET, "--protocol", "full-v1", "--dataset", "digits"], "not a distilled set: name another protocol"),
    (["measure", SET, "transfer", "--protocol", "full-v1"], "full-v1 scores a whole training split, not a distilled"),
    (["evaluate", SET, "--split", "test", "--holdout", 0.2], "contradict each other"),
    ([*MAKE, "--method", "own:method"], "name one method"),
    ([*MAKE, "--set", "pixel_space=unit", "--set", "pixel_space=zca"], "pixel_space is set more than once"),
    (["leaderboard", "--html", "x.html", "--json"], "give one of them"),
    (["bench", "digits", "--executor", "in-process", "--jobs", 2], "--jobs 2: in-process, one cell runs at a time"),
    # one that would not be used
    (["measure", SET, "transfer", "--steps", 2], "--steps is not for transfer, but for continual"),
    (["measure", SET, "continual", "--labels", "hard"], "--labels is not for continual, but for transfer, nas, ars"),
    (["measure", SET, "nas", "--random", SET], "--random is not for nas, but for lrs, ars"),
    (["measure", SET, "lrs", "--network", "MLP", "--network", "ViT"], "lrs trains one network: give --network once"),
    ([*FULL, "--labels", "hard"], "--labels, --prefix, --allow-leak and --all-sets are for distilled sets"),
    ([*FULL, "--all-sets"], "--labels, --prefix, --allow-leak and --all-sets are for distilled sets"),
    (["evaluate", SET, "--all-sets"], "--all-sets: set.safetensors is one set"),
    ([*FULL, "--allow-leak"], "--labels, --prefix, --allow-leak and --all-sets are for distilled sets"),
    (["evaluate", SET, "--registry", "mine.toml"], "--registry mine.toml: set.safetensors is a file"),
    (["verify", SET, "result.json", "--registry", "mine.toml"], "--registry mine.toml: set.safetensors is a file"),
    ([*MAKE, "--set", "zca_eps=0.2"], "zca_eps go with whitened pixels; here they are normalized"),
    ([*MAKE, "--set", "zca_input=unit"], "zca_input go with whitened pixels"),
    (["evaluate", "--dataset", "digits"], "name the file of a distilled set"),
    (["teachers", "train", "--dataset", "digits", "--epochs", 3, "--set", "epochs=4"], "epochs is set more than once"),
    (
        ["experts", "train", "mtt", "--dataset", "digits", "--count", 1, "--set", "experts=2"],
        "experts is set more than once",
    ),
]


@pytest.fixture
def here(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    synthesize(digits, "random", 1).save(SET)
    return tmp_path


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=str)
def test_what_is_not_allowed_or_not_used_is_refused_before_any_work(command, here, monkeypatch, words, said):
    monkeypatch.setattr("distill_bench.training.train.train", lambda *_, **__: pytest.fail("something was trained"))
    code, out, error = command(*words)
    assert (code, out) == (2, "")
    assert said in error
    assert {path.name for path in here.iterdir()} <= {SET, "home"}
    assert not list(here.rglob("home/store/networks/*/[0-9]*.json"))


def test_python_refuses_the_same(digits, here):
    made = load_distilled(SET)
    for options, said in [
        ({"network": ""}, "unknown network ''"),
        ({"protocol": ""}, "unknown protocol ''"),
        ({"protocol": "full-v1"}, "not a distilled set"),
        ({"networks": 0}, "`networks=0`"),
        ({"device": ""}, "unknown device ''"),
    ]:
        with pytest.raises(UsageError, match=said):
            evaluate(made, digits, **options)
    with pytest.raises(UsageError, match="`compile='yes'`: give auto, on, off"):
        decide("yes", torch.device("cpu"), 1.0)
    with pytest.raises(UsageError, match="not a distilled set"):
        transfer(made, digits, "full-v1")
    with pytest.raises(UsageError, match="quick-v1 scores distilled sets"):
        evaluate_full(digits, "quick-v1")
    with pytest.raises(UsageError, match="zca_eps go with whitened pixels"):
        synthesize(digits, "random", 1, zca_eps=0.5)


def test_what_goes_together_is_taken(command, here):
    words = [*MAKE, "--set", "zca_eps=0.2", "--set", "pixel_space=zca", "--quiet"]
    assert command(*words)[0] == 0
    assert load_distilled("new.safetensors").card.pixel_space.eps == 0.2
    assert torch.isfinite(load_distilled("new.safetensors").images).all()
