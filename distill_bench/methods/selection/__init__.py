"""Selection of real images."""
