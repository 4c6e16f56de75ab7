"""Names that help texts list. They stand here too, since the modules that define them import torch; a test compares."""

PAPER = "paper"
PROTOCOLS = (
    "standard-v1",
    "quick-v1",
    "full-v1",
    "dc-v1",
    "dsa-v1",
    "mtt-v1",
    "ast-v1",
    "datm-v1",
    "rat-v1",
    "datadam-v1",
    "ncfm-v1",
    "sre2l-v1",
    "rded-v1",
    "infer-v1",
    "prune-v1",
    "prune-full-v1",
    "prune-cpu-v1",
    "prune-cpu-full-v1",
    "prune-small-v1",
    "prune-small-full-v1",
    "reinforce-v1",
    "reinforce-small-v1",
    "matched-v1",
    "matched-average-v1",
    "matched-adamw-v1",
    "matched-muon-v1",
    "probe-v1-linear-1",
    "probe-v1-linear-5",
    "probe-v1-linear-all",
    "probe-v1-finetune-1",
    "probe-v1-finetune-5",
    "probe-v1-finetune-all",
)
SPACES: tuple[str, ...] = ("unit", "normalized", "zca")
COMPILE = ("auto", "on", "off")
EXECUTORS = ("local", "in-process", "ray")
FORMATS = ("arrays", "datadam", "datasets", "datm", "dcbench", "folder", "imagefolder", "mtt", "parquet", "res")
WRITABLE_FORMATS = ("datasets", "datm", "folder", "imagefolder", "mtt", "parquet", "res")
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
    "huggingface",
)
"""Kinds of what ``cache clear`` deletes."""
