"""Processes, TLS and both ports: everything between the socket and the WSGI application."""
