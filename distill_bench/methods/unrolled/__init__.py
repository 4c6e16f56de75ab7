"""Gradients through training."""
