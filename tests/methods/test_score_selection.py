"""Selections by a score, GraphCut and DQ on digits: what is chosen is what the scores of the kept networks say."""

import dataclasses

import pytest
import torch
from pretraining import data
from safetensors.torch import save_file

from distill_bench import UsageError, synthesize
from distill_bench.distilled.card import INDICES
from distill_bench.methods import load_method
from distill_bench.methods.recipe import TEST, list_recipes
from distill_bench.methods.selection import scores
from distill_bench.methods.selection.graph_cut import graph_cut, graph_cut_bins, logit_gradients, similarities
from distill_bench.methods.selection.score_selection import HARDEST, ScoreConfig
from distill_bench.pretrained.dynamics import KIND, get_or_record_dynamics
from distill_bench.pretrained.store import list_stored
from distill_bench.pretrained.teachers import get_or_train_teacher, list_teachers

BY_SCORE = [name for name in list_recipes() if issubclass(load_method(name).function.config, ScoreConfig)]


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory):
    """One for all: what is trained is shared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_BENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def config_of(method, **fields):
    return load_method(method).config("digits", 1, TEST, **fields)


def chosen(digits, method, fraction=0.05, seed=0, **fields):
    """The indices of the training images in a set, in its order."""
    made = synthesize(digits, method, None, TEST, seed, fraction=fraction, **fields)
    indices = made.stored[INDICES].long()
    assert torch.equal(made.labels, digits.train.labels[indices])
    return indices


def asked(network, digits):
    """Logits and features of every training image."""
    training = data(digits)
    with torch.inference_mode():
        features = network.embed(training.images(torch.arange(len(training)))).double()
        layer = network.classifier
        return features @ layer.weight.double().T + layer.bias.double(), features


def by_hand(digits, method, **fields):
    """The score of every training image, from the dynamics alone."""
    config, labels, found = config_of(method, **fields), digits.train.labels, []
    for number in range(config.networks):
        dynamics = get_or_record_dynamics(data(digits), config.teacher, 0, number, config.when)
        logits, features = asked(dynamics.teacher.network, digits)
        p, rows = logits.softmax(dim=1), torch.arange(len(labels))
        medians = [features[labels == label].quantile(0.5, dim=0) for label in range(10)]
        found.append({
            "el2n": dynamics.error[-1].double(),
            "forgetting": scores.forgetting_events(dynamics.correct),
            "aum": scores.area_under_margin(dynamics.true, dynamics.other),
            "grand": scores.gradient_norm(p, labels, features),
            "entropy": scores.entropy(p),
            "margin": (lambda top: top[:, 0] - top[:, 1])(p.sort(dim=1, descending=True).values),
            "confidence": p[rows, p.argmax(dim=1)],
            "moderate": torch.stack([(features[row] - medians[labels[row]]).norm() for row in rows]),
        }[config.score])  # fmt: skip
    return sum(found) / len(found)


def test_every_score_has_a_method_but_confidence_which_is_a_field_of_margins():
    assert {config_of(method).score for method in BY_SCORE} == set(HARDEST) - {"confidence"} and len(BY_SCORE) >= 8


CASES = [(method, {}) for method in BY_SCORE if method != "ccs"]
CASES += [("margin", {"score": "confidence"}), ("el2n", {"keep": "low"})]


@pytest.mark.parametrize(("method", "fields"), CASES)
def test_what_is_kept_of_every_class_is_the_end_that_the_recipe_names(digits, method, fields):
    config, own = config_of(method, **fields), by_hand(digits, method, **fields)
    indices = chosen(digits, method, **fields)
    for label in range(10):
        members = (digits.train.labels == label).nonzero().flatten()
        count = int(0.05 * len(members) + 0.5)
        got = own[indices[digits.train.labels[indices] == label]].sort().values
        assert len(got) == count
        ranked = own[members].sort().values
        first = (len(ranked) - count) // 2
        expected = {"high": ranked[-count:], "low": ranked[:count], "middle": ranked[first : first + count]}
        torch.testing.assert_close(got, expected[config.keep], rtol=1e-9, atol=1e-12)


def test_ccs_has_something_of_every_stratum_that_the_hardest_leave(digits):
    own, indices = by_hand(digits, "ccs"), chosen(digits, "ccs", 0.4)
    for label in range(10):
        members = (digits.train.labels == label).nonzero().flatten()
        left = own[members].sort().values[int(0.3 * len(members)) :]
        got = own[indices[digits.train.labels[indices] == label]]
        assert len(got) == int(0.4 * len(members) + 0.5) and got.min() >= left.min()
        edges = torch.linspace(float(left[0]), float(left[-1]), 51).double()[1:-1]
        strata = [set(torch.bucketize(values, edges, right=True).tolist()) for values in (got, left)]
        assert strata[0] == strata[1]


def test_hardest_and_easiest_of_each_score_are_at_the_ends_that_the_table_says(digits):
    """The hard end of every score is less often right than the other one."""
    dynamics = get_or_record_dynamics(data(digits), config_of("el2n").teacher, 0, 0, "epoch")
    for method in ("el2n", "grand", "forgetting", "aum", "entropy", "margin"):
        hard, easy = HARDEST[config_of(method).score], {"high": "low", "low": "high"}[HARDEST[config_of(method).score]]
        right = [
            float(dynamics.correct[-1][chosen(digits, method, 0.2, keep=end)].float().mean()) for end in (hard, easy)
        ]
        assert right[0] < right[1] - 0.1, method


def test_all_scores_share_the_dynamics(digits):
    for method in BY_SCORE:
        chosen(digits, method)
    places = {(piece.identity["when"], piece.identity["index"]) for piece in list_stored(KIND)}
    assert len(list_stored(KIND)) == len(places) == 3  # two networks after every epoch, one in the training pass
    assert places == {("epoch", 0), ("epoch", 1), ("visit", 0)}


def test_among_all_classes_the_highest_of_all_are_kept(digits):
    own, indices = by_hand(digits, "el2n"), chosen(digits, "el2n", 0.1, balance=False)
    assert len(indices) == int(0.1 * len(own) + 0.5)
    torch.testing.assert_close(own[indices].sort().values, own.sort().values[-len(indices) :])
    counts = digits.train.labels[indices].bincount(minlength=10)
    assert bool((digits.train.labels[indices].diff() >= 0).all()) and len(set(counts.tolist())) > 3


def test_a_class_that_would_come_out_empty_is_an_error_with_the_numbers(digits):
    fields = {"fraction": 0.008, "balance": False}
    with pytest.raises(UsageError, match=r"chose 12 of 14\d\d training images, and none of \d of 10 classes \('"):
        synthesize(digits, "el2n", None, TEST, **fields)
    with pytest.raises(UsageError, match=r"among all classes together.* give `fraction`"):
        synthesize(digits, "el2n", 1, TEST, balance=False)


def test_too_much_dropped_is_an_error_with_the_numbers_before_a_network_is_trained(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    wanted = r"`hardest_dropped=0.9` leaves 15 of the 142 images of class '0', of which 16 are asked for.* 15 or less"
    with pytest.raises(UsageError, match=wanted):
        synthesize(digits, "ccs", 16, TEST, hardest_dropped=0.9)
    assert list_stored(KIND) == []


@pytest.mark.parametrize(
    ("method", "fields", "complaint"),
    [
        ("el2n", {"epochs": 4}, "`epochs=4`: the networks are trained for 3. Give 3 or less, 0 for all"),
        ("entropy", {"epochs": 1}, "`epochs` goes with el2n, forgetting, aum; the score is entropy"),
        ("aum", {"never_learned": "easiest"}, "`never_learned` goes with forgetting; the score is aum"),
        ("el2n", {"hardest_dropped": 1.0}, "hardest_dropped: Input should be less than 1"),
        ("el2n", {"keep": "hard"}, "keep: Input should be 'high', 'low', 'middle' or 'strata'"),
        ("dq", {"bins": 200}, r"`bins=200`: 142 images of class '0' are looked at. Give 142 or less"),
        ("dq", {"pool": 5}, r"`bins=10`: 5 images of class '0' are looked at"),
    ],
)
def test_wrong_values_are_named(digits, method, fields, complaint):
    with pytest.raises(UsageError, match=complaint):
        synthesize(digits, method, 1, TEST, **fields)


def test_the_first_epochs_may_count_alone(digits):
    config = config_of("forgetting")
    dynamics = get_or_record_dynamics(data(digits), config.teacher, 0, 0, "visit")
    events = scores.forgetting_events(dynamics.correct[:2])
    indices = chosen(digits, "forgetting", balance=False, fraction=0.4, epochs=2)
    assert events[indices].sort().values.tolist() == events.sort().values[-len(indices) :].tolist()
    assert len(set(events[indices].tolist())) > 1
    first = dynamics.error[0].double()
    indices = chosen(digits, "el2n", balance=False, fraction=0.6, networks=1, epochs=1, when="visit")
    torch.testing.assert_close(first[indices].sort().values, first.sort().values[-len(indices) :])


# ---- scores of one's own


@pytest.fixture
def own_scores(digits, tmp_path):
    def write(values, split=digits.train.fingerprint):
        save_file({"scores": values}, tmp_path / "own.safetensors", split and {"train": split})
        return {"scores": str(tmp_path / "own.safetensors")}

    return write


def test_scores_of_ones_own_are_taken_as_they_are_and_no_network_is_trained(digits, own_scores, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    fields = own_scores(torch.arange(len(digits.train)).flip(0).float())
    indices = chosen(digits, "el2n", 0.1, balance=False, **fields)
    assert sorted(indices.tolist()) == list(range(len(indices)))
    assert list_stored(KIND) == []
    card = synthesize(digits, "el2n", 1, TEST, **fields).card.recipe
    assert card["scores"].startswith("sha256:") and len(card["scores"]) == 7 + 64
    other = own_scores(torch.arange(len(digits.train)).float(), None)
    assert synthesize(digits, "el2n", 1, TEST, **other).card.recipe["scores"] != card["scores"]


def test_images_of_ones_own_scores_are_relabelled(digits, own_scores):
    fields = own_scores(torch.arange(len(digits.train)).float())
    how = {"images": "el2n", "selection": fields}
    made = synthesize(digits, "random-soft", None, TEST, fraction=0.1, **how)
    assert made.stored[INDICES].tolist() == chosen(digits, "el2n", 0.1, **fields).tolist()
    assert made.card.recipe["selection"]["scores"].startswith("sha256:")


def test_scores_of_other_images_are_refused_with_the_numbers(digits, own_scores):
    count = len(digits.train)
    held = digits.with_holdout(0.2)
    with pytest.raises(UsageError, match=rf"scores of 100 images; the training split of digits has {count}"):
        synthesize(digits, "el2n", 1, TEST, **own_scores(torch.zeros(100)))
    with pytest.raises(UsageError, match=rf"of {count} images; .* with 0.2 held out has {len(held.train)}"):
        synthesize(held, "el2n", 1, TEST, **own_scores(torch.zeros(count)))
    with pytest.raises(UsageError, match=rf"{count} scores are of another training split \(abc"):
        synthesize(digits, "el2n", 1, TEST, **own_scores(torch.zeros(count), "abc"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"other": torch.zeros(3)}, "no readable scores"),
        ({"scores": torch.zeros(3, 2)}, r"of shape \(3, 2\)"),
        ({"scores": torch.tensor([0.0, torch.nan])}, "1 of its 2 scores are not finite"),
        (b"text", "no readable scores"),
        (None, "no such file"),
    ],
)
def test_files_that_hold_no_scores_are_named(digits, tmp_path, content, complaint):
    path = tmp_path / "own.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_file(content, path)
    with pytest.raises(UsageError, match=rf"scores: {path}: .*{complaint}"):
        synthesize(digits, "el2n", 1, TEST, scores=str(path))


# ---- GraphCut and DQ


def class_similarity(digits, label, softmax):
    network = get_or_train_teacher(data(digits), config_of("dq").teacher, 0).network
    logits, features = asked(network, digits)
    members = (digits.train.labels == label).nonzero().flatten()
    gradients = logit_gradients(logits[members], digits.train.labels[members], softmax)
    return members, similarities(gradients.float(), features[members].float())


def test_graph_cut_is_of_every_class_by_itself(digits):
    indices = chosen(digits, "graph-cut")
    for label in (0, 7):
        members, similarity = class_similarity(digits, label, "once")
        own = indices[digits.train.labels[indices] == label]
        assert own.tolist() == members[graph_cut(similarity, len(own))].tolist()


def test_dq_draws_from_every_bin_as_many_as_its_share(digits):
    indices = chosen(digits, "dq", 0.2)
    assert len(indices) == sum(int(0.2 * size + 0.5) for size in digits.class_sizes)
    for label in (0, 7):
        members, similarity = class_similarity(digits, label, "twice")
        own = set(indices[digits.train.labels[indices] == label].tolist())
        drawn = [len(own & set(members[part].tolist())) for part in graph_cut_bins(similarity, 10)]
        assert sum(drawn) == len(own) == int(0.2 * len(members) + 0.5)
        assert all(abs(count - len(own) / 10) < 1 for count in drawn)


def test_dq_of_one_bin_is_a_uniform_sample_and_no_graph_cut(digits):
    own = [chosen(digits, "dq", seed=0, bins=1)]
    cut = chosen(digits, "graph-cut", softmax="twice")
    assert len(set(own[0].tolist()) & set(cut.tolist())) < len(cut) / 2
    # ranks of the bins' draws are not the same in every bin
    ten = chosen(digits, "dq", 0.2)
    members, similarity = class_similarity(digits, 0, "twice")
    places = [sorted(part.tolist().index(place) for place in part.tolist() if int(members[place]) in set(ten.tolist()))
              for part in graph_cut_bins(similarity, 10)]  # fmt: skip
    assert len({tuple(ranks) for ranks in places}) > 5


def test_a_pool_bounds_how_many_images_are_compared(digits):
    indices = chosen(digits, "graph-cut", pool=20)
    assert len(indices) == len(chosen(digits, "graph-cut")) and not torch.equal(indices, chosen(digits, "graph-cut"))


def test_graph_cut_and_dq_share_the_teacher_of_herding(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    for method in ("herding", "graph-cut", "dq"):
        synthesize(digits, method, 1, TEST)
    assert len(list_teachers()) == 1


def test_the_test_split_is_left_alone(digits):
    apart = dataclasses.replace(digits, load_test=lambda: pytest.fail("asked for the test split"))
    for method in ("el2n", "forgetting", "dq"):
        synthesize(apart, method, 1, TEST)
