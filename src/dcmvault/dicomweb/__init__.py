"""An archive over HTTP: QIDO-RS and WADO-RS (PS3.18), read-only."""
