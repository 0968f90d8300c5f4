from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts import sentences

from dcmvault import i18n


@pytest.fixture(autouse=True)
def _language_back() -> Iterator[None]:
    yield
    i18n.use_language("en")


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        ({}, "", "en"),
        ({"LANG": "pt_BR.UTF-8"}, "", "pt_BR"),
        ({"LANG": "pt_PT"}, "", "pt_BR"),
        ({"LANG": "de_DE.UTF-8"}, "", "en"),
        ({"LC_ALL": "C", "LANG": "pt_BR"}, "", "en"),
        ({"LC_MESSAGES": "pt", "LANG": "en_US"}, "", "pt_BR"),
        ({"LANG": "en_US.UTF-8"}, "pt-BR", "pt_BR"),
        ({"DCMVAULT_LANGUAGE": "en", "LANG": "pt_BR"}, "pt-BR", "en"),
        ({"DCMVAULT_LANGUAGE": "klingon", "LANG": "pt_BR"}, "", "pt_BR"),
    ],
)
def test_the_language_is_chosen_in_order(
    environ: dict[str, str], configured: str, expected: str
) -> None:
    assert i18n.language_from_environment(environ, configured) == expected


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="klingon"):
        i18n.use_language("klingon")


def test_an_unknown_message_stays_english_in_every_language() -> None:
    for language in i18n.LANGUAGES:
        i18n.use_language(language)
        assert i18n.gettext("no such message 4711") == "no such message 4711"
        assert i18n.ngettext("%d moon 4711", "%d moons 4711", 2) == "%d moons 4711"


def test_figures_follow_the_language() -> None:
    i18n.use_language("en")
    assert i18n.format_number(1234567) == "1,234,567"
    assert i18n.format_number(1234.56, 1) == "1,234.6"
    i18n.use_language("pt-BR")
    assert i18n.format_number(1234567) == "1.234.567"
    assert i18n.format_number(1234.56, 1) == "1.234,6"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (999_400, "999 kB"),
        (999_500, "1.0 MB"),
        (123_456_789, "123 MB"),
        (5_000_000_000_000, "5.0 TB"),
        (3 * 10**21, "3,000 EB"),
    ],
)
def test_sizes_have_human_units(size: int, expected: str) -> None:
    i18n.use_language("en")
    assert i18n.format_bytes(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.99, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, expected: str) -> None:
    i18n.use_language("en")
    assert i18n.format_duration(seconds) == expected


def test_every_message_is_translated() -> None:
    script = Path(__file__).parents[2] / "scripts" / "messages"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_message_hides_in_an_f_string() -> None:
    """The extraction does not look into f-strings."""
    names = {"_", "gettext", "ngettext"}
    for path in Path(i18n.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                calls = {
                    call.func.id
                    for call in ast.walk(node)
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
                }
                assert not calls & names, f"{path.name}, line {node.lineno}"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("", ""),
        ("The file is empty.", "O arquivo está vazio."),
        (
            "this file cannot go to a PACS: The file ends at byte 140, inside its file meta "
            "information.",
            "este arquivo não pode ir para um PACS: O arquivo termina no byte 140, dentro da file "
            "meta information.",
        ),
        (
            "ORTHANC at 127.0.0.1:1: nothing listens on port 1",
            "ORTHANC at 127.0.0.1:1: nada escuta na porta 1",
        ),
        (
            "sent, but not verified: A at b:1 offers no query (C-FIND, Study Root)",
            "enviada, mas não verificada: A at b:1 não oferece consulta (C-FIND, Study Root)",
        ),
        (
            "The peer is short of memory, disk or connections. Check the peer's free space if it "
            "keeps happening.",
            "Falta ao PACS memória, disco ou conexões. Verifique o espaço livre do PACS se "
            "continuar acontecendo.",
        ),
        ("what nobody translated: {0} %(x)s", "what nobody translated: {0} %(x)s"),
    ],
)
def test_sentences_of_the_domain_are_translated_where_they_are_read(said: str, read: str) -> None:
    i18n.use_language("pt-BR")
    assert i18n.sentence(said) == read
    i18n.use_language("en")
    assert i18n.sentence(said) == said


def test_sentences_of_the_domain_are_found_in_the_code(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "dicom").mkdir()
    for name in sentences.DICOM_MODULES:
        (tmp_path / "dicom" / f"{name}.py").touch()
    (tmp_path / "pipeline" / "x.py").write_text(
        '''"""A docstring that reads as a sentence."""
_log.info("nobody translates a log")
assert peer, "nor what a developer is told"
raise DestinationError(f"{peer.name} closed it at {position:,}", hint="Look at its log.")
x = _("what gettext has")
y = connection.execute("SELECT a FROM b WHERE c")
z = "two words"
'''
    )
    found = [sentence for _file, sentence in sentences.domain_sentences(tmp_path)]
    assert found == ["{0} closed it at {1}", "Look at its log."]
