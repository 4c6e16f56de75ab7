"""A protocol that takes a moment, as a file: other processes read it too, where a patched table does not reach."""

from pathlib import Path

SHORT = 'id = "short"\nsource = "test"\nepochs = 1\nnetworks = 1\nnetwork = "ConvNetD1W4"\n'


def short_protocol(folder: Path) -> str:
    """Write it into a folder, and say how a suite names it from there."""
    (folder / "short.toml").write_text(SHORT)
    return "short.toml"
