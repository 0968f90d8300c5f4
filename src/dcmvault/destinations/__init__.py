"""Adapters for places that take copies."""
