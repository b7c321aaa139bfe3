"""UCM: a private certification authority that serves its own API, protocols and plugins."""

__version__ = "0.1.0"
