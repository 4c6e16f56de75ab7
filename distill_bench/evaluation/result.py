"""What an evaluation found."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LabelUse = Literal["hard", "soft", "teacher"]


class Score(BaseModel):
    """Test accuracies, in percent, of networks trained on a set.

    Attributes:
        size, holdout: of the source they were tested on, see ``load_dataset``.
        accuracies: one per network, in the order of their seeds.
        accuracy, std: their mean and population standard deviation.
        ci_low, ci_high: 95 % Student-t interval of the mean over networks; None with one network.
        labels: what was trained on: classes; the set's soft labels, one an image; or what its teacher says of every
            view, then or as it was recorded.
        learning_rate: what the networks were trained with.
        bytes: storage of the set in bytes (of the training pixels and labels, where the whole split was used).
        set_sha256: of the set's file content; None where the whole split was used.
        notes: what a reader of the number must know.
        score_key: the content address of the score, with the number of networks.
        run: seconds, device, versions and machine, and whether the networks ran compiled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    size: int | None = None
    holdout: float | None = None
    method: str
    ipc: int | None
    protocol: str
    network: str
    labels: LabelUse
    learning_rate: float
    pixel_space: str
    accuracy: float
    std: float
    ci_low: float | None
    ci_high: float | None
    accuracies: tuple[float, ...]
    networks: int
    bytes: int
    set_sha256: str | None
    train_fingerprint: str
    test_fingerprint: str
    notes: tuple[str, ...] = ()
    score_key: str | None = None
    run: dict[str, Any] = Field(default_factory=dict, repr=False)
