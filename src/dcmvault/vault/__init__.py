"""The repository format: packs, index, snapshots, codecs, keys; specified in vault-format.md."""
