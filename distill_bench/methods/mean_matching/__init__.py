"""Matching of means of features and attention."""
