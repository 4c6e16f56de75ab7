"""HeLlO: labels of a projector."""
