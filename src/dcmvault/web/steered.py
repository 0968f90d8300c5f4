"""What is steered over the API is written down in the audit journal, with who asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from dcmvault.app.auditing import Auditing, outcome_of
from dcmvault.errors import DcmvaultError
from dcmvault.model.audit import Actor, ActorKind, AuditKind
from dcmvault.web.backstage import Behind
from dcmvault.web.visitors import TOKEN_HOLDER, visitor_of

_UNEXPECTED = 1


@dataclass(slots=True)
class Ended:
    """How what is asked ended, where that is more than that it did."""

    exit_status: int = 0


class _Steered:
    """Writes down what one request asks for; what is asked is done without a journal, too."""

    def __init__(self, request: Request, behind: Behind) -> None:
        workplace = behind.workplace
        visitor = visitor_of(request)
        name = visitor.name if visitor else TOKEN_HOLDER
        asker = Actor(ActorKind.WEB, name, request.client.host if request.client else "")
        self._auditing = Auditing(
            workplace.home, asker, workplace.settings.audit, clock=workplace.clock
        )

    @contextmanager
    def __call__(
        self,
        command: str,
        *,
        kind: AuditKind = AuditKind.WORK_STEERED,
        place: str = "",
        **told: str,
    ) -> Iterator[Ended]:
        """Write down the work within and how it ended; `command` is the one that does the same."""
        exit_status, code = _UNEXPECTED, ""
        try:
            ended = Ended()
            yield ended
            exit_status = ended.exit_status
        except DcmvaultError as error:
            exit_status, code = error.exit_status, error.code
            raise
        finally:
            details: dict[str, str | int | float] = {"command": command, **told}
            details |= {"exit_status": exit_status, "code": code}
            self._auditing.note(kind, outcome_of(exit_status), place=place, details=details)


#: How a request gets it.
Steered = Annotated[_Steered, Depends()]
