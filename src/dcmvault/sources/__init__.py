"""Adapters for places that hold studies."""
