"""Published sets: which there are, where they lie, and how they are fetched and kept."""
