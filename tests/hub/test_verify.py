"""A claim is evaluated again: it holds, or it does not, and nothing that was changed on the way passes."""

import json
import os
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from relabelling import RECORD, TEACHER
from scipy.stats import ttest_ind
from short_protocol import short_quick_v1

from distill_bench import evaluate, load_distilled, synthesize
from distill_bench import verify as verify_files
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError, DistillBenchError, Interrupted, UsageError
from distill_bench.evaluation import Result, ScoreCache, networks_key, score_folder, score_key
from distill_bench.evaluation.statistics import chance_margin, student
from distill_bench.hub import verify as room
from distill_bench.hub.formats.result_file import check_belongs, parse_result, read_result
from distill_bench.hub.verify import judge, threads_to_repeat, unlike, verify
from distill_bench.runtime.progress import SILENT


@pytest.fixture(scope="module", autouse=True)
def _short(tmp_path_factory):
    with short_quick_v1(tmp_path_factory.mktemp("home"), epochs=4):
        yield


@pytest.fixture(scope="module")
def made(digits):
    return synthesize(digits, "random", 1)


@pytest.fixture(scope="module")
def score(made, digits):
    return evaluate(made, digits, "quick-v1")


@pytest.fixture
def files(made, command, tmp_path):
    """A set and its result, as the command writes them."""
    file, result = tmp_path / "set.safetensors", tmp_path / "result.json"
    made.save(file)
    code, said, _ = command("evaluate", file, "--protocol", "quick-v1", "--json")
    assert code == 0
    result.write_text(said)
    return file, result


def changed(score, **fields):
    """A score with other accuracies and all that follows from them, or with other fields."""
    if "accuracies" in fields:
        values = fields["accuracies"]
        low, high = student(values).interval()
        fields |= {"accuracy": float(numpy.mean(values)), "std": float(numpy.std(values)), "networks": len(values)}
        fields |= {"ci_low": low, "ci_high": high}
    return score.model_copy(update=fields)


def rewrite(result, score=None, **fields):
    """A result file with other accuracies, or other fields."""
    content = json.loads(result.read_text())
    claimed = score.model_dump(mode="json", exclude={"run", "score_key"}) if score else {}
    result.write_text(json.dumps(content | claimed | fields))


# --- the command


def test_a_true_claim_holds_with_the_same_digits(command, files):
    code, said, _ = command("verify", *files)
    assert (code, said.splitlines()[0].split(":")[0]) == (0, "holds")
    assert "2 networks with exactly the claimed accuracy." in said
    code, said, _ = command("verify", *files, "--networks", 1, "--json")
    verdict = json.loads(said)
    assert (code, verdict["basis"], len(verdict["accuracies"])) == (0, "equal", 1)
    code, said, _ = command("verify", *files, "--networks", 1)
    assert "Not trained: the claim's other 1 network." in said


def test_torch_has_its_threads_back_when_a_claim_was_repeated(files, score, monkeypatch):
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(room, "threads_to_repeat", lambda claimed: before + 1)
    monkeypatch.setattr(room, "verify", lambda *_, **__: seen.append(torch.get_num_threads()))
    verify_files(*files)
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


def test_an_embellished_claim_does_not_hold(command, files, score):
    rewrite(files[1], changed(score, accuracies=tuple(value + 1 for value in score.accuracies)))
    code, said, _ = command("verify", *files)
    assert (code, said.split(":")[0]) == (4, "does not hold")
    assert "versions, threads and processor are those of the claim" in said


def keep(scores, accuracies):
    shutil.rmtree(score_folder() / scores.key)
    for index, accuracy in enumerate(accuracies):
        scores.get_or_run(index, lambda accuracy=accuracy: accuracy, SILENT)


def test_networks_that_evaluate_has_cached_are_not_believed(command, files, made, digits):
    scores = ScoreCache(score_folder(), networks_key(digits, "quick-v1", made))
    honest = [entry["accuracy"] for entry in scores.networks.values()]
    forged = [value + 1 for value in honest]
    keep(scores, forged)
    _, said, _ = command("evaluate", files[0], "--protocol", "quick-v1", "--json")
    assert json.loads(said)["accuracies"] == forged
    files[1].write_text(said)
    assert command("verify", *files)[0] == 4
    keep(scores, honest)


def test_a_result_of_bench_is_verified_too(command, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    suite = 'title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nipc = [1]\nholdout = 0.3\nreference = "none"\n'
    (tmp_path / "one.toml").write_text(suite)
    arguments = ["--results", tmp_path, "--executor", "in-process", "--holdout", 0.3]
    assert command("bench", tmp_path / "one.toml", *arguments)[0] == 0
    result = tmp_path / "one.jsonl"
    file = next((tmp_path / "home/store/sets").glob("*.safetensors"))
    code, said, _ = command("verify", file, result)
    assert (code, "on digits holdout 0.3" in said) == (0, True)


def test_strict_and_stored_labels_are_told_apart(digits, made):
    soft = torch.eye(10) * 4
    learned = DistilledSet.from_tensors(made.images, made.labels, digits, soft_labels=soft, learning_rate=0.02)
    rated = DistilledSet.from_tensors(made.images, made.labels, digits, learning_rate=0.02)
    for item in (learned, rated):
        for labels in ("stored", "hard"):
            found = evaluate(item, digits, "quick-v1", labels=labels)
            verdict = verify(item, parse_result(found.model_dump_json(), Path("r")), digits)
            assert (verdict.basis, verdict.labels) == ("equal", found.labels)


@pytest.mark.parametrize("kind", ["soft", "teacher", "recorded"])
def test_a_teachers_labels_are_those_of_the_claim(digits, kind):
    taught = synthesize(digits, "random-soft", 2, labels=kind, record=RECORD, **TEACHER)
    for labels in ("stored", "hard"):
        found = evaluate(taught, digits, "quick-v1", networks=1, labels=labels)
        verdict = verify(taught, parse_result(found.model_dump_json(), Path("r")), digits)
        assert (verdict.basis, verdict.labels) == ("equal", found.labels)


def test_a_set_with_a_holdout_that_was_tested_on_the_test_split(command, tmp_path):
    file, result = tmp_path / "h.safetensors", tmp_path / "h.json"
    base = ["--dataset", "digits", "--ipc", 1, "--out", file, "--holdout", 0.3]
    assert command("synthesize", "random", *base)[0] == 0
    for split in ([], ["--split", "test"]):
        result.write_text(command("evaluate", file, "--protocol", "quick-v1", "--json", *split)[1])
        code, said, _ = command("verify", file, result)
        assert (code, "exactly" in said) == (0, True)


@pytest.mark.parametrize(
    ("content", "code", "complaint"),
    [
        (None, 3, "no such file"),
        ("{", 3, "no readable JSON"),
        ("[]", 3, "not a"),
        ("{}", 3, "not a whole result"),
        ({"accuracy": 99.0}, 3, "contradicts itself: accuracy is given as 99.0"),
        ({"accuracies": []}, 3, "accuracies"),
        ({"accuracies": [float("nan"), 1.0]}, 3, "accuracies.0"),
        ({"networks": 3}, 3, "networks is given as 3, and is 2"),
        ({"set_sha256": "0" * 64}, 3, "has the sha256"),
        ({"set_sha256": None}, 2, "whole training split"),
        ({"ipc": 2}, 3, "ipc is 2 there, and should be 1"),
        ({"dataset": "mnist"}, 3, "dataset is mnist there, and should be digits"),
        ({"method": "dm"}, 3, "method is dm"),
        ({"protocol": "quick-v0"}, 3, "unknown protocol 'quick-v0'"),
        ({"network": "ConvNet!"}, 3, "ConvNet!"),
        ({"learning_rate": 0.1}, 3, "learning_rate is 0.1 there, and should be 0.01"),
        ({"labels": "soft"}, 3, "labels is soft"),
        ({"test_fingerprint": "0"}, 3, "the test images' fingerprint is 0 there"),
        ({"train_fingerprint": "0"}, 3, "the training images' fingerprint is 0 there"),
    ],
)
def test_what_is_no_claim_about_this_set(command, files, content, code, complaint):
    file, result = files
    if content is None:
        result.unlink()
    elif isinstance(content, dict) and content:
        rewrite(result, **content)
    else:
        result.write_text(content if isinstance(content, str) else "{}")
    found, said, error = command("verify", file, result)
    assert (found, said) == (code, "")
    assert complaint in error


@pytest.mark.parametrize("field", ["accuracy", "std", "ci_low", "ci_high"])
def test_a_summary_that_does_not_follow_from_the_accuracies_is_a_contradiction(files, score, field):
    rewrite(files[1], **{field: getattr(score, field) + 1e-6})
    with pytest.raises(DataError, match=f"contradicts itself: {field} is given as"):
        read_result(files[1])


# --- a flipped byte


def test_a_flipped_byte_of_the_set_is_caught(files, made):
    file, result = files
    claimed, content = read_result(result), file.read_bytes()
    for place in range(0, len(content), 11):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(DataError):
            check_belongs(claimed, result, load_distilled(file), file)


def test_a_flipped_byte_of_what_a_result_claims_is_caught(files, made, score, digits, monkeypatch):
    """Of the notes and the account of the run, which claim nothing, a flip can make the comparison no stricter."""
    file, result = files

    def as_before(distilled, source, protocol, network, networks, labels, **_):
        same = (protocol, network, labels) == (score.protocol, score.network, "stored")
        return changed(score, accuracies=score.accuracies[:networks] if same else (0.0, 0.0))

    monkeypatch.setattr(room, "evaluate", as_before)
    content, passed = result.read_bytes(), []
    run, kind, end = (content.index(f'"{name}"'.encode()) for name in ("run", "kind", "score_key"))
    for place in (*range(run), *range(kind, end)):
        result.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            claimed = read_result(result)
            check_belongs(claimed, result, made, file)
            holds = verify(made, claimed, digits).holds
        except DistillBenchError:
            holds = False
        if holds:
            passed.append(claimed.model_dump(exclude={"notes", "run", "score_key"}))
    honest = score.model_dump(exclude={"notes", "run", "score_key"})
    names = sum(len(name) for name, field in Result.model_fields.items() if not field.is_required())
    assert len(passed) < 80 + names
    for other in passed:  # another name for an absent field, or another last digit of a mean
        assert other == {name: pytest.approx(value, abs=1e-9) for name, value in honest.items()}


# --- the criterion


@pytest.mark.parametrize(("first", "second"), [((28.1, 27.4, 29.0), (27.9, 28.4)), ((1.0, 2.0), (3.0, 9.0, 4.0, 5.0))])
def test_the_margin_is_that_of_students_two_sample_test(first, second):
    interval = ttest_ind(first, second, equal_var=True).confidence_interval(0.99)
    assert chance_margin(first, second) == pytest.approx((interval.high - interval.low) / 2)


def test_the_margin_of_a_single_value_comes_from_the_others_spread():
    # t(0.975; 2) = 4.302653, variance 1, 1 + 1/3
    assert chance_margin((5.0,), (1.0, 2.0, 3.0), 0.95) == pytest.approx(4.302653 * (4 / 3) ** 0.5)
    assert chance_margin((5.0,), (1.0,)) is None
    for wrong in [((), (1.0,), 0.99), ((1.0,), (), 0.99), ((1.0,), (2.0,), 1.0)]:
        with pytest.raises(UsageError):
            chance_margin(*wrong)


@pytest.mark.parametrize(
    ("claimed", "found", "different", "holds", "basis"),
    [
        ((50.0, 51.0), (50.0, 51.0), (), True, "equal"),
        ((50.0, 51.0), (50.0, 51.0, 44.0), ("torch",), True, "equal"),
        ((50.0, 51.0, 44.0), (50.0, 51.0), ("torch",), True, "equal"),
        ((50.0, 51.0), (50.0, 51.1), (), False, "unequal"),
        ((50.0, 50.2, 50.1), (50.1, 50.3, 50.2), ("torch",), True, "chance"),
        ((50.0, 50.2, 50.1), (50.3, 50.5, 50.4), ("torch",), True, "chance"),  # 0.23 at 95 %, 0.38 at 99 %
        ((50.0, 50.2, 50.1), (50.4, 50.6, 50.5), ("torch",), False, "chance"),
        ((50.0, 50.2, 50.1), (50.6, 50.8, 50.7), ("torch",), False, "chance"),
        ((50.6, 50.8, 50.7), (50.0, 50.2, 50.1), ("torch",), False, "chance"),
        ((50.0, 50.0), (50.1, 50.1), ("torch",), False, "chance"),
        ((50.0, 57.0), (52.0, 56.0), ("torch",), False, "undecided"),
        ((50.0,), (50.1,), ("torch",), False, "undecided"),
        ((50.0,), (50.1, 50.2, 49.9), ("torch",), True, "chance"),
        ((90.0, 95.0), (10.0, 15.0), ("torch",), False, "chance"),
    ],
)
def test_the_verdict(score, claimed, found, different, holds, basis):
    verdict = judge(changed(score, accuracies=claimed), changed(score, accuracies=found), different)
    assert (verdict.holds, verdict.basis) == (holds, basis)
    assert verdict.difference == pytest.approx(numpy.mean(found) - numpy.mean(claimed))


def test_what_decides_the_digits(files, made, digits):
    claimed, key = read_result(files[1]), score_key(digits, "quick-v1", made)
    here = claimed.run
    assert unlike(claimed, here, key) == ()
    assert unlike(claimed, here | {"torch": "1.0", "seconds": 9.0}, key) == ("torch",)
    assert unlike(claimed, here, "another") == ("score_key",)
    without = claimed.model_copy(update={"run": {}})
    assert set(unlike(without, here, key)) == set(room.DECIDES_DIGITS)
    graphics = here | {"device": "cuda"}
    assert unlike(claimed.model_copy(update={"run": graphics}), graphics, key) == ("device",)


def test_as_many_threads_as_recorded_where_that_gives_the_same_digits(files, monkeypatch):
    claimed = read_result(files[1])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    def threads(**run):
        return threads_to_repeat(claimed.model_copy(update={"run": claimed.run | run}))

    assert [threads(threads=count) for count in (4, 5, 0, "4", None)] == [4, None, None, None, None]
    assert threads(threads=4, torch="1.0") is None
    claimed.run.pop("instructions")  # not recorded before
    assert threads(threads=3) == 3


@pytest.mark.parametrize(("recorded", "how"), [(True, "on"), (False, "off")])
def test_networks_run_compiled_or_not_as_recorded(made, score, digits, monkeypatch, recorded, how):
    def recording(*_, compile, **__):
        assert compile == how
        return score

    monkeypatch.setattr(room, "evaluate", recording)
    claimed = score.model_copy(update={"run": {"compiled": recorded}})
    assert verify(made, claimed, digits).holds


def test_an_interrupted_verification_goes_on_and_a_finished_one_starts_again(made, score, digits, monkeypatch):
    seen = []

    def stopping(*_, cache, **__):
        tested = ScoreCache(cache, "key")
        seen.append([*tested.networks])
        if not tested.networks:
            tested.get_or_run(0, lambda: score.accuracies[0], SILENT)
            raise Interrupted("stopped")
        return score

    monkeypatch.setattr(room, "evaluate", stopping)
    claimed = parse_result(score.model_dump_json(), Path("r"))
    for _ in range(2):
        with pytest.raises(Interrupted):
            verify(made, claimed, digits)
        assert verify(made, claimed, digits).holds
    assert seen == [[], [0]] * 2
