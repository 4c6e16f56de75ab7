"""Fields that came later, which do without a mention at their defaults, so that addresses and bytes stay."""

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel, model_serializer


class Sparse(BaseModel):
    """A model with fields that later versions added: where they are at their defaults, nothing is written of them.

    Attributes:
        LATER: their names. A subclass that adds some names its parent's too.
    """

    LATER: ClassVar[tuple[str, ...]] = ()

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields that do nothing as the others are, and are left out with whatever value."""
        return ()

    @model_serializer(mode="wrap")
    def _without_unsaid(self, serialize: Callable[["Sparse"], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        unsaid = {
            name for name in self.LATER if getattr(self, name) == fields[name].get_default(call_default_factory=True)
        }
        return {name: value for name, value in serialize(self).items() if name not in unsaid | set(self.idle)}
