"""Names that help texts list. They stand here too, since the modules that define them import torch; a test compares."""

PAPER = "paper"
PROTOCOLS = (
    "standard-v1",
    "quick-v1",
    "full-v1",
    "dc-v1",
    "dsa-v1",
    "mtt-v1",
    "datm-v1",
    "datadam-v1",
    "sre2l-v1",
    "rded-v1",
)
SPACES: tuple[str, ...] = ("unit", "normalized", "zca")
COMPILE = ("auto", "on", "off")
EXECUTORS = ("local", "in-process", "ray")
FORMATS = ("arrays", "datadam", "datm", "dcbench", "folder", "mtt", "res")
WRITABLE_FORMATS = ("datm", "folder", "mtt", "res")
CLEARED = (
    "sets",
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
)
"""Kinds of what ``cache clear`` deletes."""
