"""The daemon: one process with the workers, the duties that come round, the listener and the API."""
