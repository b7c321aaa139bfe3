"""Contract kits: what an extension must do, as tests that its author runs."""
