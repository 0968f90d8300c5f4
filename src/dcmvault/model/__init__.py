"""Values that carry the flow: frozen, without I/O and without a clock."""
