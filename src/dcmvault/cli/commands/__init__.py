"""The commands, one per module; each offers `command()` and is imported when it is called."""
