"""The distilled set: its file, card, recorded labels, pictures, and what its pixels look like."""
