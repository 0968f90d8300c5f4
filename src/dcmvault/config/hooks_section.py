"""The section `[hooks]`: commands of the user's own that runs carry out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dcmvault.config.options import Section

#: What becomes of the run when the command fails.
HOOK_FAILURE_WORDS = ("ignore", "warn", "fail")


class HookSection(Section):
    """One command; it gets a JSON object on its standard input."""

    #: The program and its arguments, one text each. No shell reads them.
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    #: Seconds until it is ended, with all that it started.
    timeout_s: float = Field(default=60.0, gt=0, le=86_400)
    #: When it fails: “ignore” it (the log tells), “warn” in the run's report, or “fail” the run.
    on_failure: Literal["ignore", "warn", "fail"] = "warn"
    #: Plans for which it is carried out; empty: all runs.
    plans: tuple[str, ...] = ()


class HooksSection(Section):
    """Commands around runs."""

    #: Before a source is looked at. With `on_failure = "fail"` nothing is done if it fails.
    pre_run: HookSection | None = None
    #: After everything is stored and verified, before the run ends.
    post_run: HookSection | None = None
    #: Before `post_run`, for each study of the run and destination.
    per_study: HookSection | None = None
