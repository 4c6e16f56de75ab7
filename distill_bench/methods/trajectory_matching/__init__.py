"""Matching of expert trajectories."""
