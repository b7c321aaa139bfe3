"""Test kit for UCM and for plugin authors: fixtures, builders, fakes and contract kits."""
