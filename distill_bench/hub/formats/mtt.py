"""MTT, TESLA and FTD: ``images_*.pt`` [n, c, h, w], ``labels_*.pt`` [n], and sometimes the learned rate.

Form, from distill.py of GeorgeCazenavette/mtt-distillation 50dccea: plain tensors; the learned rate was only logged.
DC-BENCH's real images come the same way, with class numbers as floats, or without labels: see ``dcbench``.
"""

from collections.abc import Sequence

from distill_bench.hub.formats.loose_tensors import are_loose_tensors, parts_of, read_loose
from distill_bench.hub.formats.released import ImportedTensors, Options, ReleasedFile

NAME = "mtt"


def recognises(files: Sequence[ReleasedFile]) -> bool:
    """Images with classes, or images alone."""
    return are_loose_tensors(files) and not parts_of(files).is_matrix


def read(files: Sequence[ReleasedFile], classes: int, options: Options) -> list[ImportedTensors]:
    """The one set; one of integers, which are pictures, is nobody's in particular."""
    learned = parts_of(files).images.is_floating_point()
    return [read_loose(files, classes, options, *(("mtt", "mtt-v1") if learned else ("custom", "standard-v1")))]
