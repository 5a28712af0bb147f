"""Receiving files into a directory."""
