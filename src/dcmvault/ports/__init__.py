"""Contracts between the flow and the world: Protocols only, each small, none with a default body.

Fakes live in `dcmvault.testing`; every implementation passes the conformance suite shipped there.
"""
