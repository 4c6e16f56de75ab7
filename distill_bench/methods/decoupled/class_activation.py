"""Class activation maps: how much each position of a network's last feature maps adds to the logit of a class.

Source: Zhou et al., "Learning Deep Features for Discriminative Localization" (CVPR 2016), for networks that take the
mean over positions. Ours may instead have weights for every position, which are used as they are.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from distill_bench.errors import UsageError
from distill_bench.methods.decoupled.relabel import teacher_batch
from distill_bench.networks import Network, blank_network
from distill_bench.runtime.device import send


def class_maps(
    network: Network, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, " b"]
) -> Float[Tensor, "b u v"]:
    """The map of each image's own class, so that its sum and the class's bias are the class's logit exactly.

    A_c(u, v) = Σ_k W_c(k, u, v) f_k(u, v) with the classifier's weights W and the last feature maps f. Where the
    classifier is on the mean over positions, W_c(k, u, v) = W_c(k) / (h w), and A_c is Zhou et al.'s map over h w.

    Args:
        network: in evaluation mode.
        images: as it takes them.
        labels: whose class's map.

    Returns:
        The maps, at the resolution of the features.

    Raises:
        UsageError: its classifier is not on feature maps.
    """
    features = _last_maps(network, images)
    own = network.classifier.weight[labels]
    count, channels, height, width = features.shape if features.ndim == 4 else (0, 0, 0, 0)
    if own.shape[1] == channels:
        weights = own.view(count, channels, 1, 1) / (height * width)
    elif own.shape[1] == channels * height * width:
        weights = own.view(features.shape)
    else:
        raise UsageError(
            "the teacher's classifier is not on feature maps, which a class activation map is of. Give a "
            "`teacher.network` of convolutions, such as ConvNetBN or ResNet18BN."
        )
    return (weights * features).sum(dim=1)


def critical_areas(maps: Float[Tensor, "b u v"], height: int, width: int) -> Float[Tensor, "b h w"]:
    """Maps as they are shown: what is below zero is zero, bilinear at the images' size, each from 0 to 1.

    A constant map is 0 everywhere: no part of its image is more critical than another.

    Args:
        maps: of ``class_maps``.
        height, width: of the images.

    Returns:
        How critical every pixel is.
    """
    shown = F.interpolate(maps.relu()[:, None], (height, width), mode="bilinear")[:, 0]
    low, high = shown.amin(dim=(1, 2), keepdim=True), shown.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > low, (shown - low) / (high - low).clamp(min=torch.finfo(shown.dtype).tiny), 0.0)


def areas_of(network: Network, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> Float[Tensor, "n h w"]:
    """The critical areas of images for their classes, batch by batch, without gradients. Arguments: ``class_maps``."""
    size, sides = teacher_batch(images), (images.shape[2], images.shape[3])
    pairs = zip(images.split(size), labels.split(size), strict=True)
    with torch.no_grad():
        return torch.cat([critical_areas(class_maps(network, some, own), *sides) for some, own in pairs])


def area_shares(areas: Float[Tensor, "n h w"], regions: Int64[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """The part of each image's critical area that lies in its region, from 0 to 1; of an area of nothing, of the image.

    Args:
        areas: of ``critical_areas``.
        regions: top, left, height and width in pixels.

    Returns:
        The shares.
    """
    top, left, height, width = (each.view(-1, 1) for each in send(regions, areas.device).T)
    rows, columns = (torch.arange(side, device=areas.device) for side in areas.shape[1:])
    tall, wide = (rows >= top) & (rows < top + height), (columns >= left) & (columns < left + width)
    whole = torch.where((areas != 0).flatten(1).any(dim=1)[:, None, None], areas, 1.0)
    return (whole * tall[:, :, None] * wide[:, None, :]).sum(dim=(1, 2)) / whole.sum(dim=(1, 2))


def check_maps(name: str, shape: tuple[int, int, int], classes: int) -> None:
    """Raises UsageError if a network's classifier is not on feature maps. Nothing is computed or allocated.

    Args:
        name: of the network.
        shape: (channels, height, width) of the images.
        classes: how many logits.
    """
    network = blank_network(name, shape, classes).eval()
    with torch.device("meta"):
        class_maps(network, torch.empty(1, *shape), torch.zeros(1, dtype=torch.int64))


def _last_maps(network: Network, images: Tensor) -> Tensor:
    """What the features put out; of a ResNet, whose last step is a mean over positions, what goes into that."""
    last, kept = getattr(network.features, "layer4", None), list[Tensor]()
    if not isinstance(last, nn.Module):
        features: Tensor = network.features(images)
        return features
    hook = last.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        network.features(images)
    finally:
        hook.remove()
    return kept[0]
