"""What all formats of ``hub/formats`` share: what a format is, and the way from and to a distilled set."""
