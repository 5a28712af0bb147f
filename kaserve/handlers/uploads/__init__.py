"""Handlers that store files."""
