"""UCM's example plugin: names that are never certified, and keys in files."""

from ucm_demo.plugin import DemoPlugin

plugin = DemoPlugin()
