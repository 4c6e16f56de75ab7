"""Formats are found by their modules: one that is put beside the others is imported and exported as they are."""

import inspect

import pytest
import torch

from distill_bench import DistilledSet
from distill_bench.distilled.playback import training_images
from distill_bench.hub import all_formats, export, import_release, writable_format, writable_formats
from distill_bench.hub.convert import format as room

MODULE = """
from distill_bench.distilled.playback import training_images
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.released_file import ImportedTensors
from distill_bench.hub.convert.targets import read_targets
from distill_bench.hub.convert.writing import label_losses, rate_losses, saved


class Xy(WritableFormat):
    name, suffixes = "xy", (".pt",)

    def recognises(self, files):
        return len(files) == 1 and isinstance(files[0].content, dict) and set(files[0].content) == {"x", "y"}

    def read(self, files, dataset, options):
        x, y = files[0].content["x"], files[0].content["y"]
        return [ImportedTensors(x, read_targets(y, len(x), len(dataset.class_names), options, "xy"), "custom")]

    def losses(self, distilled, dataset):
        yield from label_losses(distilled)
        yield from rate_losses(distilled)

    def write(self, sets, out, dataset):
        yield out, saved({"x": training_images(sets[0], dataset), "y": sets[0].labels})


FORMAT = Xy()
"""


@pytest.fixture
def one_more(tmp_path, monkeypatch):
    """A format in a module of its own, beside the others."""
    (tmp_path / "xy.py").write_text(MODULE)
    monkeypatch.setattr(room.package, "__path__", [*room.package.__path__, str(tmp_path)])
    all_formats.cache_clear()
    yield
    all_formats.cache_clear()


def test_a_module_in_the_folder_is_all_that_a_format_takes(one_more, digits, tmp_path):
    assert "xy" in all_formats() and "xy" in writable_formats()
    images = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one = DistilledSet.from_tensors(images, torch.arange(10), digits, pixel_space="normalized")
    (path,) = export([one], "xy", tmp_path / "set.pt")
    (again,) = import_release([path], digits, "normalized").sets
    assert again.card.origin.form == "xy"  # and not arrays, which would read it too
    assert torch.equal(training_images(again), training_images(one))


def test_a_format_is_called_as_its_module_and_says_where_it_is_from():
    assert len(all_formats()) >= 7
    for name, each in all_formats().items():
        module = inspect.getmodule(type(each))
        assert module.__name__.endswith(f".{name}") and module.__doc__
    assert writable_format("res").suffixes and list(all_formats()) == sorted(all_formats())


def test_only_one_format_takes_what_no_other_recognises():
    assert [name for name, each in all_formats().items() if each.general] == ["arrays"]
