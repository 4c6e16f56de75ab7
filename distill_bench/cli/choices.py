"""Names that help texts list. Most stand here too, since the modules that define them import torch; a test compares."""

import tomllib
from itertools import chain
from pathlib import Path

_PROTOCOLS = Path(__file__).parents[1] / "evaluation" / "protocols.toml"

PAPER = "paper"
PROTOCOLS = tuple(
    chain.from_iterable(
        [f"{name}-{part}" for part in table["parts"]] if "parts" in table else [name]
        for name, table in tomllib.loads(_PROTOCOLS.read_text(encoding="utf-8")).items()
    )
)
SPACES: tuple[str, ...] = ("unit", "normalized", "zca")
COMPILE = ("auto", "on", "off")
EXECUTORS = ("local", "in-process", "ray")
FORMATS = ("arrays", "datadam", "datasets", "datm", "dcbench", "folder", "imagefolder", "mtt", "parquet", "res")
WRITABLE_FORMATS = ("datasets", "datm", "folder", "imagefolder", "mtt", "parquet", "res")
CLEARED = (
    "sets",
    "iterates",
    "scores",
    "networks",
    "checkpoints",
    "pretrained",
    "teacher-scores",
    "weights",
    "whitening",
    "digests",
    "downloads",
    "unpacked",
    "published",
    "compiled",
    "huggingface",
)
"""Kinds of what ``cache clear`` deletes."""
