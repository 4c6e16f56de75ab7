"""DATM and DD-Ranking's triple: images [n, c, h, w], soft labels [n, classes] and a learning rate.

Form, from evaluation.py of NUS-HPC-AI-Lab/DATM 97ae510: the labels are logits, float32, whose softmax the networks are
trained with; the rate is one number. Images come in class order, which the largest of their labels may contradict.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import UsageError
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.loose_tensors import LooseTensors, parts_of, read_loose, write_loose
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile
from distill_bench.hub.convert.targets import read_targets


class Datm(LooseTensors, WritableFormat):
    """Images with a label matrix."""

    name = "datm"
    import_options = ("--labels", "logits")

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return self.accepts(files) and parts_of(files).is_matrix

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        """The one set. Raises UsageError if it cannot be told whether the matrix holds logits."""
        if options.labels == "argmax" and parts_of(files).is_matrix:
            return [read_loose(files, dataset, options, "custom", "dsa-v1")]
        return [read_loose(files, dataset, options, "datm", "datm-v1", ordered=True)]

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        card, soft = distilled.card, distilled.soft_labels
        if card.label_kind != "logits" or soft is None:
            raise UsageError(f"`to=datm`: its labels are logits, a row an image; this set's are {card.label_kind}.")
        if card.temperature != 1:
            yield (
                f"the temperature {card.temperature:g}, by which a network's logits are divided in training too (the "
                "soft labels are divided by it before they are written)"
            )
        if card.alpha != 1:
            yield f"the weight {card.alpha:g} of the soft labels beside the classes"
        as_logits = ImportOptions(labels="logits")
        read = read_targets(soft.float(), len(soft), soft.shape[1], as_logits, self.name, ordered=True)
        if other := int((read.labels != distilled.labels).sum()):
            yield (
                f"the classes of {other} of {len(soft)} images, which `labels=hard` takes: they are neither in order "
                "nor the soft labels' largest"
            )

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        soft = sets[0].soft_labels
        assert soft is not None
        return write_loose(sets[0], soft.float() / sets[0].card.temperature, out, dataset)


FORMAT = Datm()
