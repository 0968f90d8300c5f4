"""The daemon: one process with the workers, duties that come round, the listener and the API."""
