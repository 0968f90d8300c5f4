"""Use cases, one per module; only `wiring` names concrete adapters."""
