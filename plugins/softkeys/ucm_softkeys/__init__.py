"""Software key backend: private keys sealed at rest under the master key."""
