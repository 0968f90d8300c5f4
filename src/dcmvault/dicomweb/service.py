"""What a request asks for, by its path, and who may ask: the service apart from HTTP."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import parse_qsl, unquote, urlsplit

from dcmvault.dicomweb.images import frames, rendered
from dcmvault.dicomweb.replies import JSON, Outcome, RefusedError, Reply, Request, json_reply
from dcmvault.dicomweb.retrieval import bulk_data, metadata, retrieve
from dcmvault.dicomweb.search import search_of
from dcmvault.errors import DcmvaultError, MalformedDicomError, QueryTooBroadError
from dcmvault.ports.archive import Archive

_log = logging.getLogger(__name__)

#: Where the service stands below the host.
ROOT = "/dicom-web"
_LONGEST_PATH = 32 * 1024
_MOST_PARTS = 64
_SERVICES: Mapping[tuple[str, ...], str] = {
    (): "about",
    **dict.fromkeys(
        [
            ("studies",),
            ("series",),
            ("instances",),
            ("studies", "*", "series"),
            ("studies", "*", "instances"),
            ("studies", "*", "series", "*", "instances"),
            ("series", "*", "instances"),
        ],
        "search",
    ),
}
_STUDY = ("studies", "*")
_SERIES = (*_STUDY, "series", "*")
_INSTANCE = (*_SERIES, "instances", "*")
_BELOW: Mapping[tuple[str, ...], str] = {
    **dict.fromkeys((_STUDY, _SERIES, _INSTANCE), "retrieve"),
    **{(*path, "metadata"): "metadata" for path in (_STUDY, _SERIES, _INSTANCE)},
    **{
        (*path, name): "rendered"
        for path in (_STUDY, _SERIES, _INSTANCE)
        for name in ("rendered", "thumbnail")
    },
    (*_INSTANCE, "frames", "*"): "frames",
    (*_INSTANCE, "frames", "*", "rendered"): "rendered",
    (*_INSTANCE, "frames", "*", "thumbnail"): "rendered",
    (*_INSTANCE, "bulkdata", "7FE00010"): "frames",
}
_PATHS = {**_SERVICES, **_BELOW}


@dataclass(frozen=True, slots=True)
class WebAccess:
    """Who may ask. Empty tokens: whoever reaches the port, see `service.admit`."""

    #: Name to bearer token.
    tokens: Mapping[str, str]
    #: Origins of web pages that may read answers (CORS).
    origins: Collection[str] = ()
    #: Networks that may connect; of this machine everybody may.
    networks: Sequence[IPv4Network | IPv6Network] = ()
    #: Peers show certificates that are checked.
    has_certificates: bool = False

    def may_connect(self, address: str) -> bool:
        """Say whether an address may connect at all."""
        there = ip_address(address.partition("%")[0])
        there = getattr(there, "ipv4_mapped", None) or there
        return there.is_loopback or any(there in network for network in self.networks)

    def who(self, host: str, origin: str, authorization: str) -> str:
        """Return the name of whoever asks; RefusedError where they may not."""
        if origin and origin not in self.origins:
            raise RefusedError(403, "web pages of this origin may not ask (“web_origins”)")
        if not self.tokens:
            # Else a web page could reach us by a name of its own that leads to this machine.
            if not self.has_certificates and not _is_address(host):
                raise RefusedError(403, "without a token, ask by “localhost” or an IP address")
            return ""
        scheme, _space, given = authorization.partition(" ")
        for name, token in self.tokens.items():
            same = hmac.compare_digest(given.strip().encode(), token.encode())
            if scheme.lower() == "bearer" and same:
                return name
        challenge = {"WWW-Authenticate": 'Bearer realm="dcmvault"'}
        raise RefusedError(401, "a bearer token is needed, and none that is known came", challenge)


def _is_address(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() == "localhost":
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ArchiveService:
    """Answers requests from an archive."""

    archive: Archive

    def answer(self, request: Request, outcome: Outcome) -> Reply:
        """Answer; RefusedError where that cannot be done."""
        pattern = tuple(
            "*" if at % 2 and at < len(request.path) else part
            for at, part in enumerate(request.path)
        )
        kind = _kind(request.path, pattern)
        try:
            return self._answer(kind, request, outcome)
        except QueryTooBroadError as error:
            raise RefusedError(413, error.message) from error
        except MalformedDicomError as error:
            raise RefusedError(500, f"the instance cannot be read: {error.message}") from error
        except DcmvaultError as error:
            _log.warning("the archive cannot be read: %s", error.message)
            raise RefusedError(503, f"the archive cannot be read ({error.code})") from error

    def _answer(self, kind: str, request: Request, outcome: Outcome) -> Reply:
        if kind == "search":
            return search_of(request, outcome).reply(self.archive)
        if kind == "about":
            return json_reply({"service": "dcmvault", "dicomweb": ["QIDO-RS", "WADO-RS"]}, JSON)
        retrieves: Mapping[str, Callable[[Archive, Request, Outcome], Reply]] = {
            "retrieve": retrieve,
            "metadata": metadata,
            "rendered": rendered,
            "frames": frames,
            "bulkdata": bulk_data,
        }
        return retrieves[kind](self.archive, request, outcome)


def _kind(path: tuple[str, ...], pattern: tuple[str, ...]) -> str:
    found = _PATHS.get(pattern)
    if found is None and pattern[:-1] == (*_INSTANCE, "bulkdata"):
        found = "frames" if path[-1].upper() == "7FE00010" else "bulkdata"
    elif found is None and pattern[:7] == (*_INSTANCE, "bulkdata") and len(path) > 7:
        found = "bulkdata"
    if found is None:
        raise RefusedError(404, "there is no such resource")
    return found


def read_target(target: str, root: str, accept: str) -> Request:
    """Read the target of a request. RefusedError for what is not below our root."""
    if len(target) > _LONGEST_PATH:
        raise RefusedError(414, "the address is longer than anybody needs")
    try:
        split = urlsplit(target)
        parameters = parse_qsl(
            split.query, keep_blank_values=True, errors="strict", max_num_fields=1000
        )
        path = split.path.rstrip("/")
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            raise RefusedError(404, f"there is nothing but {ROOT}")
        parts = path[len(ROOT) :].split("/")[1:]
        if len(parts) > _MOST_PARTS:
            raise RefusedError(414, "the address is longer than anybody needs")
        decoded = tuple(unquote(part, errors="strict") for part in parts)
    except ValueError as error:
        raise RefusedError(400, "the address cannot be read") from error
    return Request(decoded, tuple(parameters), root, accept)
