"""Test accuracy of teachers: for their owner, never for a method."""

from distill_bench.datasets import Dataset
from distill_bench.datasets.pixel_space import PixelSpace, Transform
from distill_bench.pretrained.store import Pretrained
from distill_bench.pretrained.teachers import Teacher
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.stored import read_json, write_json
from distill_bench.training.train import accuracy

ENDING = ".test.json"


def score_teacher(teacher: Teacher, dataset: Dataset, device: str = "auto") -> float:
    """Percent right on the dataset's test split, recorded in a file beside the teacher's.

    Raises:
        UsageError: the dataset has no test split.
    """
    place, test = resolve_device(device), dataset.test
    space = PixelSpace.model_validate(teacher.pretrained.identity["pixel_space"])
    fetch = Transform(space, dataset.train).fetch(test, place)
    percent = accuracy(teacher.network, fetch, test.labels.to(place))
    content = {"accuracy": percent, "test_fingerprint": test.fingerprint}
    write_json(teacher.pretrained.path.with_suffix(ENDING), content, bound=True)
    return percent


def recorded_score(pretrained: Pretrained) -> float | None:
    """The recorded test accuracy of a kept teacher, in percent; None if it has not been tested."""
    content = read_json(pretrained.path.with_suffix(ENDING), "accuracy", bound=True)
    return None if content is None else content["accuracy"]
