"""How every method is drawn, in the figure and on the page: its family, one colour, and a dash for what varies it.

Colours are told apart with protanopia, deuteranopia and tritanopia within a family; a mark's shape is the family's.
Random images are grey in every family: those with other labels or pixels have a dash of their own.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

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
_RANDOM_DASHES = {
    "random-zca": 3,
    "random-recorded": 1,
    "random-distances": 2,
    "random-top2": 3,
    "random-projector": 1,
}
DASHES = 5
OTHER, FLIPPED, TAUGHT = "other methods", "FYI on ", "real images with a teacher"
_SHAPES = ("circle", "wedge", "pentagon", "square", "triangle", "diamond", "plus", "hexagon", "cross")
_VARIANT = re.compile(r"^(?P<fyi>fyi-)?(?P<base>.+?)(?:-(?P<kind>always-flip|released|easy|kd-[0-9.]+))?$")


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Attributes:
        family: of methods that share a panel.
        colour: a place in ``PALETTE``.
        dash: 0 for a method as its paper has it; else which variant it is, below ``DASHES``.
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
            return Style(family, colours[method], _RANDOM_DASHES.get(method, 0), shape)
    parts = _VARIANT.fullmatch(method)
    if parts and parts["base"] != method:
        base = style_of(parts["base"])
        if base.family in FAMILIES:
            return _variant(base, parts["kind"] or "", flipped=bool(parts["fyi"]))
    digest = hashlib.sha256(method.encode()).digest()
    return Style(OTHER, digest[0] % GREY, 0, _SHAPES[-1])


def _variant(base: Style, kind: str, flipped: bool) -> Style:
    if kind.startswith("kd-"):  # of a teacher beside the classes with that weight
        return replace(base, family=TAUGHT, dash=min(2 * base.dash + (2 if kind == "kd-1.0" else 1), DASHES - 1))
    if kind == "easy" and not flipped:
        return replace(base, dash=1)
    return replace(base, family=FLIPPED + base.family, dash=3 if kind == "released" else 1 if flipped else 2)


def told_apart(methods: Iterable[str]) -> list[Style]:
    """The styles of the lines of one panel: in place of a look that is taken the next dash, and then the next shape.

    >>> [style.dash for style in told_apart(["dm", "dsa", "dm"])]
    [0, 0, 1]
    """
    looks = list[Style]()
    for style in map(style_of, methods):
        taken = {(look.colour, look.dash, look.shape) for look in looks}
        first = _SHAPES.index(style.shape)
        steps = ((first + shape, style.dash + dash) for shape in range(len(_SHAPES)) for dash in range(DASHES))
        places = ((dash % DASHES, _SHAPES[shape % len(_SHAPES)]) for shape, dash in steps)
        dash, shape = next(place for place in places if (style.colour, *place) not in taken)
        looks.append(replace(style, dash=dash, shape=shape))
    return looks


def family_order(family: str) -> tuple[int, str]:
    """Families as they follow one another: those listed, with a teacher, FYI's, others."""
    known = [*FAMILIES, TAUGHT, *(FLIPPED + each for each in FAMILIES)]
    return (known.index(family) if family in known else len(known)), family
