"""Whatever is asked of the API, the answer is one that its own OpenAPI document tells of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from tests.security.fuzz_world import fuzz_dashboard
from tests.unit.web.dashboard_world import HOST, TOKEN, Answer, Browser, Dashboard

#: Every operation of the document, so that none is left out when the document loses one.
OPERATIONS = (
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/api/status"),
    ("GET", "/api/workers"),
    ("GET", "/api/runs"),
    ("GET", "/api/runs/{run_id}"),
    ("GET", "/api/queue"),
    ("GET", "/api/plans"),
    ("GET", "/api/schedules"),
    ("GET", "/api/alerts"),
    ("GET", "/api/events"),
    ("POST", "/api/plans/{name}/runs"),
    ("POST", "/api/schedules/{name}/enable"),
    ("POST", "/api/schedules/{name}/disable"),
    ("POST", "/api/queue/pause"),
    ("POST", "/api/queue/resume"),
    ("POST", "/api/queue/cancel"),
    ("POST", "/api/queue/prioritise"),
)
#: Names of what there is, for a share of the requests: made-up ones are never found.
KNOWN = {"run_id": ("latest",), "name": ("nightly",), "destination": ("copies", "kept")}
AnyCase = schemathesis.Case[Any]
_MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with fuzz_dashboard(tmp_path_factory.mktemp("api")) as opened:
        yield opened


@pytest.fixture(scope="module")
def document(dashboard: Dashboard) -> dict[str, Any]:
    """The document as it is served."""
    answer = dashboard.browser().ask("GET", "/api/openapi.json", headers=_BEARER)
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


_BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_every_operation_is_fuzzed(document: dict[str, Any]) -> None:
    told = {(method.upper(), path) for path, of in document["paths"].items() for method in of}
    assert told == set(OPERATIONS)


def _sent(browser: Browser, case: AnyCase) -> schemathesis.Response:
    """Send what was generated as a client would, and give the answer as one would take it."""
    asked = case.as_transport_kwargs(base_url=f"http://{HOST}")
    asked["headers"] = {**asked.get("headers", {}), **_BEARER}
    asked.pop("auth", None)
    request = requests.Request(**asked).prepare()
    address = urlsplit(request.url or "")
    target = f"{address.path}?{address.query}" if address.query else address.path
    body = request.body or b""
    assert isinstance(body, str | bytes)
    answer = browser.ask(
        request.method or "",
        target,
        body.encode() if isinstance(body, str) else body,
        {str(name): _text(value) for name, value in request.headers.items()},
    )
    return _as_taken(answer, request)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _as_taken(answer: Answer, request: requests.PreparedRequest) -> schemathesis.Response:
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers:
        headers.setdefault(name, []).append(value)
    return schemathesis.Response(answer.status, headers, answer.body, request, 0.0, False)


def _known(case: AnyCase, name: str, value: str) -> None:
    """Put the name of something that there is in the place of a made-up one."""
    for place in (case.path_parameters, case.body):
        if isinstance(place, dict) and name in place:
            place[name] = value


def _campaign(
    document: Mapping[str, Any], dashboard: Dashboard, method: str, path: str, examples: int
) -> None:
    operation = schemathesis.openapi.from_dict(dict(document))[path][method]
    # Any text is a name in a path: only the rest can be wrong.
    can_be_wrong = bool(operation.query or operation.headers or operation.body)
    has_input = can_be_wrong or bool(operation.path_parameters)
    browser = dashboard.browser()
    names = [(name, value) for name, values in KNOWN.items() for value in values]

    def asked(case: AnyCase, known: tuple[str, str] | None) -> None:
        if known is not None:
            _known(case, *known)
        case.validate_response(_sent(browser, case))

    for mode in _MODES if can_be_wrong else _MODES[:1]:
        known = st.none() | st.sampled_from(names) if mode is _MODES[0] else st.none()
        limits = settings(
            max_examples=examples if has_input else min(examples, 5),
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
        )
        limits(given(case=operation.as_strategy(generation_mode=mode), known=known)(asked))()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_as_the_document_says(
    dashboard: Dashboard, document: dict[str, Any], method: str, path: str
) -> None:
    _campaign(document, dashboard, method, path, 25)


@pytest.mark.nightly
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_as_the_document_says_for_long(
    dashboard: Dashboard, document: dict[str, Any], method: str, path: str
) -> None:
    _campaign(document, dashboard, method, path, 3000)
