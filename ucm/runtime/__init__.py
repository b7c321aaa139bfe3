"""The plugin host, the settings, the scheduler and the composition root."""
