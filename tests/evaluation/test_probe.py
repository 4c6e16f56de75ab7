"""Sets of targets: who may train on them, and what a network that was pre-trained by them is worth."""

import pytest
from forms_table import made, targeted

from distill_bench import evaluate
from distill_bench.benchmark.beside import random_beside
from distill_bench.errors import UsageError


def test_a_protocol_that_trains_on_labels_refuses_targets_and_says_what_can_be_had(digits):
    one = targeted(digits)
    with pytest.raises(UsageError, match=r"3 features an image .*quick-v1 trains on labels of 10 .*`labels=hard`"):
        evaluate(one, digits, "quick-v1", "ConvNetD1W4", 1)


def test_the_classes_of_its_images_are_labels_where_they_are_asked_for(digits):
    asked = {"protocol": "quick-v1", "network": "ConvNetD1W4", "networks": 1, "labels": "hard"}
    found, plain = (evaluate(one, digits, **asked) for one in (targeted(digits), made(digits)))
    assert found.accuracies == plain.accuracies and found.strict and not plain.strict


def test_no_random_images_with_labels_stand_beside_targets(digits):
    with pytest.raises(UsageError, match="targets, and random-soft makes none"):
        random_beside(targeted(digits), digits)
    assert random_beside(targeted(digits), digits, "hard").card.method == "random"
