"""Durable state: tables, repositories and the unit of work. Nothing above it sees SQL."""
