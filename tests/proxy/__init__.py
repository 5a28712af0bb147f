"""Tests of `kaserve.proxy`."""
