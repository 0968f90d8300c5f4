"""Shipped for authors of adapters: conformance suites, simulated peers, fixture builders."""
