"""The scenarios of faults.py."""
