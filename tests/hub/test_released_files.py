"""Every file of a folder of real releases is read. Runs where DISTILL_BENCH_RELEASED names the folder."""

import json
import os
import statistics
from pathlib import Path

import pytest

from distill_bench.hub import ImportOptions, all_formats
from distill_bench.hub.convert.released_file import ReleasedFile

FOLDER = Path(os.environ.get("DISTILL_BENCH_RELEASED", ""))
pytestmark = pytest.mark.skipif(not (FOLDER / "index.json").is_file(), reason="DISTILL_BENCH_RELEASED is not set")


def listed():
    path = FOLDER / "index.json"
    return json.loads(path.read_text()) if path.is_file() else [{"file": "none"}]


@pytest.mark.parametrize("entry", listed(), ids=lambda entry: entry["file"])
def test_a_released_file_is_read_and_has_what_the_index_says(entry, digits):
    file = ReleasedFile(FOLDER / entry["file"])
    assert file.sha256 == entry["sha256"]
    if "shape" in entry:
        assert list(file.content.shape) == entry["shape"]
        return
    assert all_formats()["res"].recognises([file])
    found = all_formats()["res"].read([file], digits, ImportOptions())  # of ten classes, as these files are
    assert len(found) == entry["sets"]
    assert list(found[0].images.shape) == entry["images"]
    for network, stored in entry["stored_accuracy"].items():
        values = found[0].stored_accuracies[network]
        assert len(values) == stored["n"]
        assert statistics.fmean(values) == pytest.approx(stored["mean"], abs=1e-4)
