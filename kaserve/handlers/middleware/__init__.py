"""Handlers that stand in front of another handler."""
