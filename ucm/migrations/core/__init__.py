"""Revisions of the core's tables. They import nothing of UCM: they must mean the same for ever."""
