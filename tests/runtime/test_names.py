"""Names from outside are printable, bounded text wherever they come in."""

import pytest

from distill_bench import DistilledSet, load_distilled
from distill_bench.distilled.card import Card
from distill_bench.errors import DataError
from distill_bench.runtime.names import LONGEST, MOST_CLASSES, checked_class_names, checked_file_name, checked_name

UNPRINTABLE = [
    "\x1b[31mred", "\x1b]0;title\x07", "two\nlines", "return\r", "tab\t", "nul\0", "c1\x9b31m", "half \ud800",
    "line\u2028separator", "right\u202eto left", "\x7f", "cat\u200b", "\ufeffdog",
]  # fmt: skip
NO_FILE = ["..", ".", "../evil", "/absolute", "a/b", "a\\b", "C:evil", ".hidden", "-option", "é" * 200, ""]


@pytest.mark.parametrize("name", [*UNPRINTABLE, "", "   ", "x" * (LONGEST + 1)])
def test_what_cannot_be_printed_or_is_too_long_is_no_name_and_the_error_can_be_printed(name):
    with pytest.raises(ValueError, match=r"is empty|has the character|characters") as error:
        checked_name(name)
    assert str(error.value).isprintable() and len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["Granny Smith", "T-shirt/top", "yellow lady's slipper", "猫", "é" * LONGEST, "=1+1"])
def test_a_name_in_any_script_passes_as_it_is(name):
    assert checked_name(name) == name


@pytest.mark.parametrize("name", [*UNPRINTABLE, *NO_FILE])
def test_a_name_that_leads_elsewhere_names_no_file(name):
    with pytest.raises(ValueError, match=r"is empty|has the character|becomes the name"):
        checked_file_name(name)


def test_classes_are_counted_and_told_apart():
    assert checked_class_names(["a", "b"]) == ("a", "b")
    for names in ([], ["a", "a"], ["a", "b\n"], list(map(str, range(MOST_CLASSES + 1)))):
        with pytest.raises(ValueError, match=r"class"):
            checked_class_names(names)


@pytest.mark.parametrize("name", UNPRINTABLE)
@pytest.mark.parametrize("field", ["method", "protocol", "licence", "paper"])
def test_a_set_whose_card_has_such_a_name_is_neither_made_nor_read(name, field, digits, tmp_path):
    from distill_bench import synthesize

    made = synthesize(digits, "random", 1)
    with pytest.raises(DataError):
        DistilledSet.from_tensors(made.images, made.labels, digits, **{field: name})
    made.card = made.card.model_copy(update={field: name})
    if name == "half \ud800":
        return  # no file holds it
    made.save(tmp_path / "set.safetensors")
    with pytest.raises(DataError, match=r"card is invalid") as error:
        load_distilled(tmp_path / "set.safetensors")
    assert str(error.value).isprintable()


def test_class_names_of_a_card_are_checked(digits):
    from distill_bench import synthesize

    content = synthesize(digits, "random", 1).card.model_dump()
    for names in (("a", "a"), ("a\x1b",), ()):
        with pytest.raises(ValueError, match="class_names"):
            Card.model_validate(content | {"class_names": names})
