"""Augmentation and whitening: sampled from explicit generators, applied by pure functions."""
