"""Telemetry: what is measured while work is done, and what is wrong by it."""
