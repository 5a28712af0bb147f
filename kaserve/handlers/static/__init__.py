"""Serving the files of a directory."""
