"""An example plug-in of dcmvault: a destination in one tar file, and a channel that appends."""
