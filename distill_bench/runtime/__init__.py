"""What everything stands on: paths, files, locks, checkpoints, progress, seeds, hashing, text."""
