"""What every network here has: features, and a linear classifier on them."""

from jaxtyping import Float
from torch import Tensor, nn


class Network(nn.Module):
    """Features, flattened, and a classifier of them.

    Args:
        features: from images to feature maps or vectors.
        classifier: linear, on the flattened features.
    """

    features: nn.Module
    classifier: nn.Linear

    def __init__(self, features: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The flattened features, the classifier's input."""
        return self.features(images).flatten(1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.classifier(self.embed(images))
