"""Measurements of what was generated."""
