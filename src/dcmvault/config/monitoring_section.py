"""The section `[monitoring]`: when an alert is raised, and when backups of a source are held."""

from __future__ import annotations

from pydantic import Field

from dcmvault.config.options import Section


class MonitoringSection(Section):
    """What is too much, too little or too long."""

    #: Seconds without a byte, and without an instance that ended, while work runs.
    stalled_after_s: float = Field(default=300.0, ge=10, le=86_400)
    #: Megabytes that must be free on every disk that is written to.
    disk_low_mb: int = Field(default=1024, ge=0)
    #: Hours until a disk is full at its present pace; 0: not foretold.
    disk_full_within_h: float = Field(default=24.0, ge=0, le=8760)
    #: How busy all processors together may be (percent), and for how long (seconds).
    cpu_percent: float = Field(default=80.0, gt=0, le=100)
    cpu_after_s: float = Field(default=300.0, ge=10, le=86_400)
    #: Days that a certificate must still be valid.
    certificate_days: float = Field(default=30.0, ge=0, le=3650)
    #: Seconds between looks of the daemon whether destinations answer; 0: it does not look.
    probe_every_s: float = Field(default=300.0, ge=0, le=86_400)
    #: Backups of a source are held when more than this share of its instances changed since its
    #: last one, or is gone (percent); but only from so many instances on.
    hold_changed_percent: float = Field(default=20.0, gt=0, le=100)
    hold_gone_percent: float = Field(default=50.0, gt=0, le=100)
    hold_instances: int = Field(default=100, ge=1)
    #: Days within which what changed bit by bit counts together.
    hold_days: int = Field(default=14, ge=1, le=366)
