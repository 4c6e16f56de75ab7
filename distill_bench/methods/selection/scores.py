"""Scores of training images: how much each of them is likely to teach, by what networks make of it.

Pure functions of one network's outputs, or of what was recorded while it trained. Sums are of float64.
"""

from typing import Literal

from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

_LOG_FLOOR = 1e-6  # what DeepCore adds to a probability before its logarithm


def error_norm(probabilities: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """EL2N of one network: ‖p − ȳ‖₂, ȳ the class as a one-hot row.

    Source: Paul, Ganguli & Dziugaite, "Deep Learning on a Data Diet" (NeurIPS 2021), definition 2.

    Args:
        probabilities: rows that sum to 1.
        labels: the classes.

    Returns:
        From 0 (certain and right) to √2 (certain and wrong).
    """
    return (probabilities - F.one_hot(labels, probabilities.shape[1])).norm(dim=1)


def gradient_norm(
    probabilities: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], embeddings: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """GraNd of one network's last layer: the norm of each image's own cross-entropy gradient by its weights and biases.

    That gradient is the outer product of p − ȳ with (e, 1), so its norm is EL2N · √(1 + ‖e‖²). It is an image's own: a
    norm of the gradient of a batch's mean would depend on how many images the batch has.

    Source: Paul, Ganguli & Dziugaite (2021), definition 1; of the last layer alone as in PatrickZH/DeepCore 74ec709.

    Args:
        probabilities: rows that sum to 1.
        labels: the classes.
        embeddings: what goes into the classifier.

    Returns:
        At least 0.
    """
    return error_norm(probabilities, labels) * (1 + embeddings.square().sum(dim=1)).sqrt()


def entropy(probabilities: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """−Σ p log(p + 10⁻⁶), in nats: how undecided a network is. Source: PatrickZH/DeepCore 74ec709.

    Args:
        probabilities: rows that sum to 1.

    Returns:
        From about 0 to log k.
    """
    return -(probabilities * (probabilities + _LOG_FLOOR).log()).sum(dim=1)


def margin(probabilities: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The difference of the two largest probabilities: small where a network wavers. Source: DeepCore 74ec709.

    Args:
        probabilities: rows of two or more that sum to 1.

    Returns:
        From 0 to 1.
    """
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    return first - second


def confidence(probabilities: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The largest probability: small where a network is least confident.

    DeepCore takes the largest logit, which grows with a network's norm; this is the score of the literature.

    Args:
        probabilities: rows that sum to 1.

    Returns:
        From 1 / k to 1.
    """
    return probabilities.amax(dim=1)


def distance_to_median(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """‖φ − median‖₂, the median taken of every feature by itself.

    Source: Xia et al., "Moderate Coreset" (ICLR 2023), as tmllab/2023_ICLR_Moderate-DS 7f64d31, where the centre is the
    median. Of an even number of rows it is the mean of the two in the middle.

    Args:
        embeddings: of the images of one class.

    Returns:
        At least 0.
    """
    ordered, count = embeddings.sort(dim=0).values, len(embeddings)  # torch.quantile takes 16 million numbers at most
    return (embeddings - (ordered[(count - 1) // 2] + ordered[count // 2]) / 2).norm(dim=1)


def forgetting_events(
    correct: Bool[Tensor, "epochs n"], never_learned: Literal["hardest", "easiest"] = "hardest"
) -> Float[Tensor, " n"]:
    """How often an image that was right is wrong at the next visit.

    Source: Toneva et al., "An Empirical Study of Example Forgetting" (ICLR 2019), and mtoneva/example_forgetting
    d51c1aa, where an image that never was right counts as many events as there are epochs, more than any other has.
    DeepCore and CCS give it 0, as if it were the easiest.

    Args:
        correct: whether the network was right, epoch by epoch.
        never_learned: ``hardest``: as many events as epochs for an image that never was right; ``easiest``: 0.

    Returns:
        Whole numbers.
    """
    events = (correct[:-1] & ~correct[1:]).sum(dim=0)
    return events.masked_fill(~correct.any(dim=0), len(correct) if never_learned == "hardest" else 0).double()


def area_under_margin(true: Float[Tensor, "epochs n"], other: Float[Tensor, "epochs n"]) -> Float[Tensor, " n"]:
    """AUM: the sum over epochs of the class's probability less the largest of another class.

    Source: Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking" (NeurIPS 2020), of
    logits there; of probabilities in haizhongzheng/Coverage-centric-coreset-selection b37f166.

    Args:
        true: the probability of the image's class.
        other: the largest of the other classes.

    Returns:
        From −epochs (always certain and wrong) to epochs.
    """
    return (true.double() - other.double()).sum(dim=0)
