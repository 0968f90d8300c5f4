"""Adapters for objects under keys."""
