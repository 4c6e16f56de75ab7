"""Random real images with an encoder's features for targets: what there is to beat for methods that make targets."""

from functools import partial
from typing import Any, ClassVar

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.card import TARGETS
from distill_bench.methods.run import Config, Piece, Run, SynthesisResult, method
from distill_bench.methods.selection.selection import random_indices, selected
from distill_bench.pretrained.barlow_twins import (
    Encoder,
    EncoderRecipe,
    check_batches,
    encoder_bytes,
    encoder_path,
    encoder_training,
    get_or_train_encoder,
)


class TargetsConfig(Config):
    """Fields of the methods whose targets are an encoder's features.

    Attributes:
        encoder: how it is trained. Its seed is the run's.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("encoder.learning_rate",)
    memory_fields: ClassVar[tuple[str, ...]] = ("encoder.batch_size",)

    encoder: EncoderRecipe

    @property
    def labels_are_classes(self) -> bool:
        """They are targets."""
        return False

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if the encoder cannot be trained in such batches."""
        check_batches(self.encoder, sum(dataset.class_sizes))

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: what the encoder's training takes."""
        return encoder_bytes(self.encoder, dataset.train.shape)


def encoder_of(run: Run[Any]) -> Encoder:
    """The encoder of the run's recipe and seed."""
    asked = (run.training, run.config.encoder, run.seed)
    return run.pretrained(partial(get_or_train_encoder, *asked), lambda encoder: [encoder.pretrained])


def encoder_pieces(run: Run[Any]) -> list[Piece]:
    """The encoder, as what a method needs pretrained."""
    recipe = run.config.encoder
    path = encoder_path(run.training, recipe, run.seed)
    return [Piece(path, partial(encoder_of, run), encoder_training(run.training, recipe))]


@method(TargetsConfig, pretrained=encoder_pieces, selects=True)
def random_targets(run: Run[TargetsConfig]) -> SynthesisResult:
    """The images of ``random`` with the encoder's features. Labels are the images' classes, for the strict score."""
    chosen = selected(run, random_indices(run))
    images = chosen.images if chosen.images.is_floating_point() else run.training.encode(chosen.images)
    targets = encoder_of(run).features(images).cpu()
    stored = chosen.stored | {TARGETS: targets}
    return SynthesisResult(chosen.images, chosen.labels, label_kind="targets", stored=stored)
