"""What methods share whose stored images may hold several smaller ones each, see ``distilled.formation``."""

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.formation import composed, decoded, formation_trouble, grey
from distill_bench.errors import UsageError
from distill_bench.methods.run import Config, Run


class FormationConfig(Config):
    """The field of a method whose images may hold smaller ones.

    Attributes:
        formation: every stored image holds so many smaller ones in a row and in a column, which networks are shown
            enlarged, here and in evaluation. IPC counts stored images.
    """

    LATER: ClassVar[tuple[str, ...]] = ("formation",)

    formation: PositiveInt = 1

    @property
    def begins_with_real_images(self) -> bool:
        """Whether f² real images are put in each."""
        return True

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError for images that cannot hold so many."""
        super().check(dataset)
        _, height, width = dataset.train.shape
        if trouble := formation_trouble(self.formation, height, width, self.pixel_space_on(dataset)):
            raise UsageError(f"`formation={self.formation}`: {trouble}.")


def formation_of(config: Config) -> int:
    """The formation of a run's images; 1 for methods that have none."""
    return config.formation if isinstance(config, FormationConfig) else 1


def shown_of(run: Run[Any], images: Float[Tensor, "n c h w"]) -> Float[Tensor, "shown c h w"]:
    """What networks are shown of a run's stored images: the f² that each holds, one after the other; differentiable."""
    return decoded(images, formation_of(run.config), grey(run.training.pixel_space))


def stored_of(run: Run[Any], images: Float[Tensor, "parts c h w"]) -> Float[Tensor, "n c h w"]:
    """Stored images of a run that hold the given ones, f² each."""
    return composed(images, formation_of(run.config))
