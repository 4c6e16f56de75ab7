"""What the strategies share: commands to try, places to put files, ways to spoil bytes."""

from typing import Any

import makers
from hypothesis import strategies as st

EXPERTS = (
    "experts", "import", "{root}/in/replay_buffer_0.pt", "--dataset", "digits", "--space", "normalized",
    "--network", "ConvNetD1W4",
)  # fmt: skip
RECIPE_CHECK = ("recipe", "validate", "{root}/in/mine.toml")
TO = ("--dataset", "digits", "--out", "{out}")


def importing(names: Any, *more: str) -> tuple[str, ...]:
    return ("import", *(f"{{root}}/in/{name}" for name in names), *TO, *more)


def placed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"in/{name}": content for name, content in files.items()}


fractions = st.floats(0, 1, exclude_max=True)
spoils = st.one_of(
    st.builds(makers.cut, fractions),
    st.builds(makers.flip, fractions, st.integers(0, 7)),
    st.builds(makers.overwrite, fractions, st.sampled_from(makers.EDGES) | st.binary(min_size=1, max_size=8)),
    st.builds(makers.remove, fractions, st.integers(1, 64)),
    st.builds(makers.repeat, fractions, st.integers(1, 256)),
)


@st.composite
def spoiled(draw: st.DrawFn, data: bytes) -> bytes:
    for spoil in draw(st.lists(spoils, min_size=1, max_size=4)):
        data = spoil(data)
    return data
