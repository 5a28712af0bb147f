"""The measurements of cost_of_observability.py."""
