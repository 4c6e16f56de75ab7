"""What is trained on real data before synthesis, kept once a machine and shared by all methods that need it."""
