"""Text that came from outside (names of classes, methods, sets and files), escaped for the place where it is shown.

A function a place. Each leaves alone what means nothing special there, so that text of our own passes unchanged. The
page has names as JSON that its script shows as text, and figures draw text as it is.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from distill_bench.runtime.names import is_printable

MARKS = re.compile(r"[\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown obeys. An underscore within a word means nothing there."""
HTML = re.compile(r"[<>$]|&(?=[A-Za-z#])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}
_FORMULA = tuple("=+-@＝＋－＠")
"""How a cell begins that spreadsheets compute."""


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first of some names, on one line, and how many more there are.

    >>> listed(["cat", "dog"]), listed(range(5), 3)
    ('cat, dog', '0, 1, 2 and 2 more')
    """
    words = [for_terminal(str(name)) for name in names]
    return ", ".join(words[:most]) + (f" and {len(words) - most:,} more" if len(words) > most else "")


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "file"), counted(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def for_terminal(text: str) -> str:
    """One line that does nothing but show: control characters, line breaks and bidi marks become escapes.

    >>> print(for_terminal("cat" + chr(27) + "[2J"))
    cat\\x1b[2J
    """
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)


def for_markdown(text: str) -> str:
    """One line of Markdown, in a table too, that reads as the text: no markup, no HTML, no further cell.

    >>> for_markdown("a|b *c* <script> fashion_mnist")
    'a\\\\|b \\\\*c\\\\* &lt;script&gt; fashion_mnist'
    """
    line = MARKS.sub(lambda mark: "\\" + mark[0], for_terminal(" ".join(text.split())))
    return HTML.sub(lambda mark: _ENTITIES[mark[0]], line)


def for_csv(value: object) -> object:
    """A cell that no spreadsheet computes: text that begins as a formula gets an apostrophe; numbers stay.

    >>> for_csv("=1+1"), for_csv("-1.5"), for_csv(-1.5), for_csv("dm")
    ("'=1+1", '-1.5', -1.5, 'dm')
    """
    if not isinstance(value, str):
        return value
    line = for_terminal(value)
    return f"'{line}" if line.startswith(_FORMULA) and not _is_number(line) else line


def for_json(content: Any, indent: int | None = None) -> str:
    """JSON in which characters that cannot be printed are escapes; a string of it is one in TOML and YAML too.

    >>> print(for_json("é" + chr(0x9B)))
    "é\\u009b"
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    return "".join(c if c == "\n" or is_printable(c) else f"\\u{ord(c):04x}" for c in text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
