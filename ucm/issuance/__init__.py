"""The one door to a CA's signature: policy, profile, lint, sign, verify, store, publish."""
