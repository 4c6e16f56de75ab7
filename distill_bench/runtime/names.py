"""Names that come from outside (of classes, methods, suites, published sets): checked here, wherever they come in.

What passes can be written to a card, a board and a terminal, and read again. Names that become part of a path are held
to more.
"""

import unicodedata
from collections.abc import Sequence

LONGEST = 255
"""Characters of a name; also the bytes that file systems allow a file's."""
LONGEST_PATH = 4096
MOST_CLASSES = 100_000
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories: control characters, halves of surrogate pairs, line and paragraph separators."""
_INVISIBLE = set("\u00ad\u200b\u2060\ufeff")
"""Marks of no width, by which two names that look the same differ."""
_REORDERING = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that make a terminal show what follows in another order than it is."""


def is_printable(character: str) -> bool:
    """Whether a character shows as itself alone: no control character, line break, surrogate or bidi mark."""
    return unicodedata.category(character) not in UNPRINTABLE and character not in _REORDERING | _INVISIBLE


def checked_name(name: str, what: str = "the name", longest: int = LONGEST) -> str:
    """The name, if it is one to ``longest`` characters of plain text.

    Args:
        name: as it came.
        what: the name is of, for the error, such as ``"the method's name"``.
        longest: characters it may have; ``LONGEST_PATH`` for paths.

    Returns:
        The name, unchanged.

    Raises:
        ValueError: it is empty, too long, or holds a character that cannot be printed; says which, escaped.
    """
    if not name.strip():
        raise ValueError(f"{what} is empty. Give at least one visible character")
    if len(name) > longest:
        raise ValueError(f"{what} has {len(name):,} characters ({name[:20]!r} …). At most {longest} are allowed")
    plain = name.isascii() and name.isprintable()  # nearly all are: the long way takes much of a board's time
    wrong = None if plain else next((character for character in name if not is_printable(character)), None)
    if wrong is not None:
        raise ValueError(
            f"{what}, {name[:60]!a}, has the character {wrong!a}. Names are printable text: no control "
            "characters, line breaks or bytes that are not UTF-8. Rename it"
        )
    return name


def checked_file_name(name: str, what: str = "the name") -> str:
    """The name, if it can be part of a path without leading anywhere else.

    Args:
        name: as for ``checked_name``.
        what: as for ``checked_name``.

    Returns:
        The name, unchanged.

    Raises:
        ValueError: as ``checked_name``; or it is more than 255 bytes, ``.`` or ``..``, begins with a dot or a hyphen,
            or has a slash, backslash or colon.
    """
    checked_name(name, what)
    if name.startswith((".", "-")) or any(mark in name for mark in "/\\:") or len(name.encode()) > LONGEST:
        raise ValueError(
            f"{what} is {name!r}. It becomes the name of a folder or file: at most {LONGEST} bytes, without / \\ or :, "
            "and not beginning with a dot or a hyphen"
        )
    return name


def checked_class_names(names: Sequence[str], where: str = "the dataset") -> tuple[str, ...]:
    """The names of classes in label order, if they can be written, read again and told apart.

    Args:
        names: in label order.
        where: they come from, for the error.

    Returns:
        The names, unchanged.

    Raises:
        ValueError: there are none or more than ``MOST_CLASSES``, one is no name (see ``checked_name``), or two classes
            have the same.
    """
    if not names:
        raise ValueError(f"{where} has no class. It needs one at least")
    if len(names) > MOST_CLASSES:
        raise ValueError(f"{where} has {len(names):,} classes. At most {MOST_CLASSES:,} are allowed")
    seen: set[str] = set()
    for label, name in enumerate(names):
        checked_name(name, f"the name of class {label} of {where}")
        if name in seen:
            raise ValueError(f"{where} has two classes of the name {name!r}. Names tell classes apart: rename one")
        seen.add(name)
    return tuple(names)
