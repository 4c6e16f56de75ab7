"""Distilling without labels: images, and the features that a network is to have of them."""
