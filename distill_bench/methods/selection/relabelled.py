"""Real images that any selection chose, or images that another method made, with a teacher's labels.

Of real ones that is pruning with knowledge distillation; of made ones it tells what images are worth from what labels
are.

Source: Ben-Baruch et al., "Distilling the Knowledge in Data Pruning" (2024), arXiv 2403.07854: a teacher trained on the
whole training split labels the images that are kept.
"""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, cast

from pydantic import AfterValidator, Field, field_serializer

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError, unknown
from distill_bench.methods.decoupled.relabel import RelabelConfig, relabel, teacher_of, teacher_pieces
from distill_bench.methods.finished_sets import BY_CONTENT, ENDING, full_path, is_finished_set, set_named
from distill_bench.methods.formation import formation_of
from distill_bench.methods.projector.labels import weak_teachers_piece, with_projector
from distill_bench.methods.recipe import Values, list_recipes
from distill_bench.methods.registry import Method, load_method
from distill_bench.methods.run import (
    Config,
    Piece,
    Resolve,
    Run,
    SynthesisResult,
    config_of,
    method,
    pretrained_of,
    selects,
    version_of,
)
from distill_bench.methods.selection.selection import random_indices, selected

RANDOM = "random"


class RelabelledConfig(RelabelConfig):
    """Fields of ``relabelled_selection``.

    Attributes:
        images: the method that chooses or makes the images: one of this project whose labels are classes; or a finished
            set's .safetensors file, whose labels are left aside.
        selection: values of that method's fields instead of its recipe's; completed, all of its values. It has the
            pixel space of this one.
    """

    LATER: ClassVar[tuple[str, ...]] = (*RelabelConfig.LATER, "images", "selection")

    images: Annotated[str, AfterValidator(full_path), BY_CONTENT] = RANDOM
    selection: Values = Field(default_factory=dict)

    def completed(self, resolve: Resolve) -> Config:
        """With all values of that method; raises UsageError where there is none of that name."""
        if self.takes_no_values:
            if self.selection:
                named = ", ".join(self.selection)
                raise UsageError(f"selection has values ({named}), and `images={self.images}` takes none.")
            return self
        own = self.model_dump(include=set(Config.model_fields))
        idle = () if self.pixel_space == "zca" else ("zca_eps", "zca_input")
        values = {name: value for name, value in (self.selection | own).items() if name not in idle}
        if other := [name for name in own if name not in idle and self.selection.get(name, own[name]) != own[name]]:
            raise UsageError(f"selection has {', '.join(other)}, which is the set's: give it beside `images`, once.")
        config = resolve(_chooser(self.images), values)
        return self.model_copy(update={"selection": config.model_dump()})

    @field_serializer("selection", when_used="json")
    def _on_the_card(self, selection: Values) -> Values:
        """As that method's own card has it: files by their content."""
        return selection if self.takes_no_values else self.chooser.model_dump(mode="json")

    @property
    def takes_no_values(self) -> bool:
        """Whether the images are random ones or a finished set's, which no recipe chooses or makes."""
        return self.images == RANDOM or is_finished_set(self.images)

    @property
    def chooser(self) -> Config:
        """The values of the method that chooses or makes the images."""
        return config_of(_chooser(self.images).function).model_validate(self.selection)

    @property
    def balanced(self) -> bool:
        """As that method has it."""
        return self.takes_no_values or self.chooser.balanced

    @property
    def of_real_images(self) -> bool:
        """As the method that chooses or makes the images; those of a finished set may be any."""
        return self.images == RANDOM or (not self.takes_no_values and selects(_chooser(self.images).function))

    @property
    def asks_teacher(self) -> bool:
        """Whether labels are a teacher's: neither classes nor those of a projector with another's encoder."""
        return self.labels != "hard" and not (self.labels == "projector" and self.projector.external)

    @property
    def versions(self) -> dict[str, int]:
        """The version of its function."""
        return {} if self.takes_no_values else {self.images: version_of(_chooser(self.images).function)}

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if images cannot be chosen, or not be labelled so."""
        super().check(dataset)
        if self.takes_no_values:
            return
        self.chooser.check(dataset)
        if formation_of(self.chooser) != 1:
            raise UsageError(
                f"images={self.images} with selection.formation={formation_of(self.chooser)}: labels are of whole "
                "images. Give 1."
            )
        if not self.chooser.labels_are_classes:
            raise UsageError(
                f"images={self.images} has other labels than classes, in whose place these would stand. Give "
                "`selection.labels=hard` where it has that field, or images of another method."
            )

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """The larger of what the teacher and that method take."""
        own = super().step_bytes(dataset, ipc)
        return own if self.takes_no_values else max(own, self.chooser.step_bytes(dataset, ipc))


def _pieces(run: Run[Any]) -> list[Piece]:
    """What labels, where that is trained, and what the method that chooses needs."""
    config = run.config
    weak = [weak_teachers_piece(run)] if config.labels == "projector" else []
    labelling = teacher_pieces(run) if config.asks_teacher else weak
    if config.takes_no_values:
        return labelling
    choosing = _choosing(run)
    pieces = pretrained_of(_chooser(run.config.images).function)(choosing) + labelling
    return list({piece.path: piece for piece in pieces}.values())


@method(RelabelledConfig, pretrained=_pieces, selects=True)
def relabelled_selection(run: Run[RelabelledConfig]) -> SynthesisResult:
    """Images of another method or a finished set with a teacher's labels: what methods that relabel have to beat."""
    chosen = _chosen(run)
    if run.config.asks_teacher:
        return relabel(run, teacher_of(run), chosen)
    return chosen if run.config.labels == "hard" else with_projector(run, None, chosen)


def _chosen(run: Run[RelabelledConfig]) -> SynthesisResult:
    if run.config.images == RANDOM:
        return selected(run, random_indices(run))
    if is_finished_set(run.config.images):
        given = set_named(run, "images")
        return SynthesisResult(given.images, run.labels, learning_rate=given.learning_rate)
    return _images_of_another(run)


def _images_of_another(run: Run[RelabelledConfig]) -> SynthesisResult:
    """What the method that chooses or makes the images does, under a checkpoint of its own, in the run's history."""
    own, function = _choosing(run), _chooser(run.config.images).function
    made = own.part("images", lambda part: function(replace(part, history=own.history)))
    assert isinstance(made, SynthesisResult)
    return made if run.config.labels == "hard" else replace(made, prefixes=())


def _choosing(run: Run[RelabelledConfig]) -> Run[Any]:
    """The run of the method that chooses or makes the images. Its errors say where its fields are."""
    name = f"{run.method} (images of {run.config.images}, whose fields are selection.…)"
    return replace(cast(Run[Any], run), config=run.config.chooser, method=name)


def _chooser(name: str) -> Method:
    """A method of this project that is not this one. Raises UsageError if there is none of that name."""
    if name in list_recipes():
        if (chosen := load_method(name)).function is not relabelled_selection:
            return chosen
        raise UsageError(f"images={name}: its images are those of `images=random`. Give that, or another method.")
    known = [each for each in list_recipes() if load_method(each).function is not relabelled_selection]
    raise UsageError("images: " + unknown("method", name, known, f", or a finished set's {ENDING} file"))
