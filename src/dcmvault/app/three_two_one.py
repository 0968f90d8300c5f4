"""3-2-1-1-0: three copies, two media, one off-site, one immutable or offline, no errors.

What is not known is said to be unknown; what only the configuration says is said to be assumed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from dcmvault.app.standing import Counted
from dcmvault.config.sections import VaultSection
from dcmvault.config.settings import Settings
from dcmvault.model.overview import Basis, Proof, Rule, Ruling, Verdict

_CLOUDS = frozenset({"s3", "az", "gs"})
#: Copies beside the original, and media in all.
_COPIES, _MEDIA = 2, 2


def rulings(
    settings: Settings, counted: Counted | None, held: Mapping[str, int], proof: Proof | None
) -> tuple[Ruling, ...]:
    """Judge by each rule. `held` has bytes held by evidence, by the destination's name.

    A destination that holds nothing keeps no rule.
    """
    keeping = [name for name in settings.destinations if held.get(name)]
    return (
        _copies(counted),
        _media(settings, counted, keeping),
        _off_site(settings, keeping),
        _immutable(settings, keeping),
        _errors(counted, proof),
    )


def _copies(counted: Counted | None) -> Ruling:
    """Judge by the least number of copies that a study has, the original included."""
    if counted is None or not counted.protection.studies:
        return Ruling(Rule.COPIES, Verdict.UNKNOWN, Basis.NOTHING)
    least = min(counted.protection.by_copies)
    verdict = Verdict.KEPT if least >= _COPIES else Verdict.BROKEN
    return Ruling(Rule.COPIES, verdict, Basis.EVIDENCE, least + 1)


def _media(settings: Settings, counted: Counted | None, keeping: list[str]) -> Ruling:
    if counted is None or not keeping:
        return Ruling(Rule.MEDIA, Verdict.UNKNOWN, Basis.NOTHING)
    sections = [settings.destinations[name].section for name in keeping]
    media = {_medium(one, counted) for one in (*sections, *settings.sources.values())}
    verdict = Verdict.KEPT if len(media) >= _MEDIA else Verdict.BROKEN
    return Ruling(Rule.MEDIA, verdict, Basis.CONFIGURATION, len(media), tuple(keeping))


def _medium(section: object, counted: Counted) -> tuple[str, str]:
    """Name what a place is on, so far as that can be told: a file system, a cloud, a machine."""
    device = counted.devices.get(str(getattr(section, "address", "")))
    if device is not None:
        return "disk", str(device)
    if isinstance(section, VaultSection) and section.scheme in _CLOUDS:
        return "cloud", f"{section.scheme} {section.endpoint}"
    return "machine", _host(section)


def _off_site(settings: Settings, keeping: list[str]) -> Ruling:
    """Believe that a provider's cloud is elsewhere; where another machine stands, nobody told."""
    clouds, elsewhere = [], []
    for name in keeping:
        section = settings.destinations[name].section
        if isinstance(section, VaultSection) and section.scheme in _CLOUDS and not section.endpoint:
            clouds.append(name)
        elif not _is_here(section):
            elsewhere.append(name)
    if clouds:
        return Ruling(Rule.OFF_SITE, Verdict.KEPT, Basis.CONFIGURATION, len(clouds), tuple(clouds))
    if elsewhere or not keeping:
        return Ruling(Rule.OFF_SITE, Verdict.UNKNOWN, Basis.NOTHING, 0, tuple(elsewhere))
    return Ruling(Rule.OFF_SITE, Verdict.BROKEN, Basis.CONFIGURATION)


def _immutable(settings: Settings, keeping: list[str]) -> Ruling:
    """Whether a disk lies in a drawer nobody can tell: only what is configured counts."""
    locked = tuple(_locked(settings, keeping))
    if locked:
        return Ruling(Rule.IMMUTABLE, Verdict.KEPT, Basis.CONFIGURATION, len(locked), locked)
    return Ruling(Rule.IMMUTABLE, Verdict.UNKNOWN, Basis.NOTHING)


def _locked(settings: Settings, keeping: list[str]) -> Iterator[str]:
    for name in keeping:
        section = settings.destinations[name].section
        if isinstance(section, VaultSection) and section.object_lock:
            yield name


def _errors(counted: Counted | None, proof: Proof | None) -> Ruling:
    """Count copies that are missing or damaged, unreadable files, and a restore that failed."""
    if counted is None or not counted.oldest_evidence:
        return Ruling(Rule.ERRORS, Verdict.UNKNOWN, Basis.NOTHING)
    errors = sum(one.refuted for one in counted.copies.values()) + sum(counted.unreadable.values())
    if proof is not None and not proof.passed:
        errors += 1
    verdict = Verdict.BROKEN if errors else Verdict.KEPT
    return Ruling(Rule.ERRORS, verdict, Basis.EVIDENCE, errors)


def _host(section: object) -> str:
    host = getattr(section, "host", "")
    if not host:
        address = str(getattr(section, "address", ""))
        _scheme, found, rest = address.partition("://")
        host = rest.partition("/")[0].rpartition("@")[2] if found else ""
        host = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return str(host).strip("[]").lower()


def _is_here(section: object) -> bool:
    host = _host(section)
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
