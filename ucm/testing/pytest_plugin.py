"""Pytest plugin of the test kit; imports nothing of ucm before a fixture is used."""
