"""Every error says its code, whether to try again, and the exit status it means."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from dcmvault import errors
from dcmvault.errors import DcmvaultError, Retry


def _tree(root: type[DcmvaultError]) -> Iterator[type[DcmvaultError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


CLASSES = [error for error in _tree(DcmvaultError) if error.__module__ == errors.__name__]

each_class = pytest.mark.parametrize("error", CLASSES, ids=lambda error: str(error.__name__))


def test_codes_are_unique() -> None:
    codes = [error.code for error in CLASSES]
    assert len(codes) == len(set(codes))


@each_class
def test_an_error_states_its_own_code(error: type[DcmvaultError]) -> None:
    assert "code" in vars(error), "inherits the code of another error"
    assert re.fullmatch(r"[a-z][a-z_]*", error.code)
    assert isinstance(error.retry, Retry)
    assert error.exit_status in {1, 2, 3, 4, 5, 130}
    assert error.__doc__


@each_class
def test_an_error_carries_a_sentence_and_what_to_do(error: type[DcmvaultError]) -> None:
    raised = error("the disk is full", hint="make room")
    assert (str(raised), raised.message, raised.hint) == (
        "the disk is full",
        "the disk is full",
        "make room",
    )
