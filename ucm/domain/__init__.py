"""Rules without input and output."""
