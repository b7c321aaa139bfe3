"""Use cases: what the REST API, the CLI and plugins do with the store and the pipeline."""
