"""Request bodies and query parameters of the PKI resources."""
