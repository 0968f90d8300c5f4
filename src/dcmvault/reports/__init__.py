"""Rendering of run reports and summaries."""
