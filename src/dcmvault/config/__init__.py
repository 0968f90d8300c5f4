"""The configuration file: one commented TOML, its schema, and how errors in it are explained."""
