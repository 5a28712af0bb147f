"""The version: the one place that states it. `pyproject.toml` and `kaserve/__init__.py` read it from here."""

__version__ = "0.1.0"
