"""How every method is drawn, in the figure and on the page: its family, one colour, and a dash for what varies it.

Colours are told apart with protanopia, deuteranopia and tritanopia within a family; a mark's shape is the family's.
"""

import hashlib
import re
from dataclasses import dataclass

# (on white, on a dark ground): the same hue, at least 3:1 against the ground
PALETTE = (
    ("#1D86E0", "#8CC6FF"), ("#8A2B0A", "#D9772B"), ("#3E8A6C", "#35DFA0"), ("#A3128F", "#C77AA6"),
    ("#BC8A12", "#F7D646"), ("#5A35D6", "#A271FF"), ("#6E6E6E", "#A6A6A6"),
)  # fmt: skip
BLUE, BROWN, GREEN, PLUM, GOLD, VIOLET, GREY = range(len(PALETTE))
FAMILIES = {
    "real images": {"random": GREY, "random-zca": GREY, "herding": GREEN, "k-center": GOLD, "k-means": BROWN},
    "scores of real images": {
        "el2n": BLUE,
        "grand": BROWN,
        "forgetting": GREEN,
        "aum": PLUM,
        "entropy": GOLD,
        "margin": VIOLET,
    },
    "coverage by real images": {"moderate": BROWN, "ccs": PLUM, "graph-cut": GOLD, "dq": BLUE},
    "gradient and mean matching": {"dc": BROWN, "dsa": BLUE, "dm": GOLD, "datadam": PLUM, "ncfm": VIOLET},
    "trajectory matching": {"mtt": VIOLET, "tesla": GREEN, "ftd": BROWN, "datm": BLUE, "datm-tesla": PLUM, "ast": GOLD},
    "gradients through training": {"rat-bptt": BLUE, "at-bptt": BROWN},
    "a teacher's labels": {
        "random-soft": GREY,
        "random-recorded": GREY,
        "random-distances": GREY,
        "random-top2": GREY,
        "sre2l": VIOLET,
        "cda": GOLD,
        "rded": PLUM,
        "nrr-dd": GREEN,
        "nrr-dd-distances": BROWN,
    },
    "teachers' labels in other forms": {
        "random-ensemble": GREY,
        "random-projector": GREY,
        "infer": GREEN,
        "hello": BROWN,
        "reinforce": BLUE,
        "reinforce-no-rest": PLUM,
        "kd-online": GOLD,
    },
    "targets without labels": {"random-targets": GREY, "krr-st": BLUE},
}
OTHER, FLIPPED = "other methods", "FYI on "
_SHAPES = ("circle", "wedge", "pentagon", "square", "triangle", "diamond", "plus", "hexagon", "cross")
_VARIANT = re.compile(r"^(?P<fyi>fyi-)?(?P<base>.+?)(?:-(?P<kind>always-flip|released))?$")


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Attributes:
        family: of methods that share a panel.
        colour: a place in ``PALETTE``.
        dash: 0 for a method as its paper has it; else which variant of FYI's it is.
        shape: of its marks.
    """

    family: str
    colour: int
    dash: int
    shape: str


def style_of(method: str) -> Style:
    """The style of a method: listed, a variant of one that is, or unknown, when its name alone decides.

    >>> style_of("fyi-dm").colour == style_of("dm").colour
    True
    """
    for shape, (family, colours) in zip(_SHAPES, FAMILIES.items(), strict=False):
        if method in colours:
            return Style(family, colours[method], 0, shape)
    parts = _VARIANT.fullmatch(method)
    if parts and parts["base"] != method:
        base = style_of(parts["base"])
        if base.family != OTHER and base.family in FAMILIES:
            dash = 3 if parts["kind"] == "released" else 1 if parts["fyi"] else 2
            return Style(FLIPPED + base.family, base.colour, dash, base.shape)
    digest = hashlib.sha256(method.encode()).digest()
    return Style(OTHER, digest[0] % GREY, 0, _SHAPES[-1])


def family_order(family: str) -> tuple[int, str]:
    """Families as they follow one another: those listed, FYI's, others."""
    known = [*FAMILIES, *(FLIPPED + each for each in FAMILIES)]
    return (known.index(family) if family in known else len(known)), family
