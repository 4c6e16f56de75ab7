"""Dataset reinforcement: views of real images and a teacher's probabilities for them, recorded once."""
