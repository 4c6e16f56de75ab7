"""What the package offers in Python: sets by name or path, and everything that the command does."""
