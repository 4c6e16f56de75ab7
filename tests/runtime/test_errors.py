"""Errors in words."""

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from distill_bench.errors import describe


def test_what_is_wrong_of_all_fields_together_names_none():
    class Pair(BaseModel):
        first: int = 1
        second: int = 2

        @model_validator(mode="after")
        def _rise(self) -> "Pair":
            if self.first > self.second:
                raise ValueError("first is above second")
            return self

    for values, said in (
        ({"first": 3}, "first is above second"),
        ({"first": "x"}, "first: Input should be"),
    ):
        with pytest.raises(ValidationError) as caught:
            Pair.model_validate(values)
        assert describe(caught.value).startswith(said)
