"""The one training loop, compilation of its steps, and sharpness-aware steps."""
