"""Template, style, script and data become one file."""

import json
from pathlib import Path
from typing import Any

import jinja2

_FOLDER = Path(__file__).parent
_ENDS_NO_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def page(data: dict[str, Any]) -> str:
    """The page of some data.

    Args:
        data: see ``page_data``.

    Returns:
        HTML text: nothing in the data can end the block that it stands in, and the script shows it as text alone.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_read("page.html.j2"))
    return template.render(
        data=_for_script(data), palette=data["palette"], style=_read("page.css"), script=_read("page.js")
    )


def _for_script(data: Any) -> str:
    """JSON that may stand in a script element: the characters that HTML would read are escapes."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escaped in _ENDS_NO_SCRIPT.items():
        text = text.replace(character, escaped)
    return text


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
