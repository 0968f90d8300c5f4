from __future__ import annotations

import json
import logging
import os
import pty
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from dcmvault import i18n
from dcmvault.cli import main as cli
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.logs import log_path, start_log, stop_log
from dcmvault.cli.output import format_age, mark, table, write_private
from dcmvault.cli.root import command_group
from dcmvault.errors import DcmvaultError, DestinationUnreachableError

CHEAP = [["--help"], ["--version"], ["config", "--help"], ["config", "show"], ["config", "check"]]
COMMANDS = list(command_group().list_commands(click.Context(click.Command("x"))))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("DCMVAULT_HOME", str(home))
    monkeypatch.delenv("DCMVAULT_DEBUG", raising=False)
    return home


def dcmvault(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dcmvault", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", CHEAP)
def test_cheap_commands_import_nothing_dear(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from dcmvault.cli.main import run\n"
        f"status = run({arguments!r})\n"
        "dear = {'dbos', 'sqlalchemy', 'alembic', 'pydicom', 'pynetdicom', 'numpy', 'rich'}\n"
        "assert not dear & set(sys.modules), dear & set(sys.modules)\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def leaves() -> list[list[str]]:
    group = command_group()
    paths: list[list[str]] = []
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        paths += _leaves_of([name], command)
    return paths


def _leaves_of(path: list[str], command: click.Command) -> list[list[str]]:
    if not isinstance(command, click.Group):
        return [path]
    return [
        leaf
        for name, inner in command.commands.items()
        for leaf in _leaves_of([*path, name], inner)
    ]


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_command_explains_itself(language: str, capsys: pytest.CaptureFixture[str]) -> None:
    i18n.use_language(language)
    try:
        for path in leaves():
            assert cli.run([*path, "--help"]) == 0
            text = capsys.readouterr().out
            assert i18n.gettext("Examples") + ":" in text
            assert f"dcmvault {' '.join(path)}" in text
    finally:
        i18n.use_language("en")


def test_no_command_means_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    assert all(name in capsys.readouterr().out for name in ("backup",))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bakup"], "Did you mean “backup”?"),
        (["nonsense"], "nonsense"),
        (["queue"], "Missing command"),
        (["config", "show", "--efective"], "--effective"),
        (["--lang", "xx", "config", "show"], "--lang"),
        (["config", "init", "--to", "orthanc+http://localhost"], "is for reading"),
        (["config", "init", "--to", "listener:"], "cannot be a destination"),
    ],
)
def test_usage_errors(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err


def test_errors_are_one_json_object(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "config.toml").write_text("privcy = 'off'\n")
    assert cli.run(["config", "check", "--json"]) == 4
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert captured.err == ""
    assert answer["exit_status"] == 4
    assert answer["error"]["code"] == "configuration"
    assert "Did you mean “privacy”?" in answer["error"]["message"]
    assert cli.run(["config", "chek", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


class _Raising(click.Group):
    """A group that raises what a command might."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("dcmvault")
        self._error = error

    def invoke(self, ctx: click.Context) -> object:
        raise self._error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (DestinationUnreachableError("No way.", hint="Go."), 5, "dcmvault: No way.\n  → Go.\n"),
        (DcmvaultError("Bad \x1b[2J."), 1, "dcmvault: Bad \\x1b[2J.\n"),
        (KeyboardInterrupt(), 130, "the same command continues"),
        (RuntimeError("DOE^JANE"), 1, "unexpected happened (RuntimeError)"),
    ],
)
def test_errors_become_sentences_and_statuses(
    error: BaseException,
    status: int,
    says: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "command_group", lambda: _Raising(error))
    try:
        assert cli.run(["backup"]) == status
    finally:
        stop_log()
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    if isinstance(error, RuntimeError):
        log = log_path(home).read_text()
        assert "RuntimeError" in log
        assert "test_cli_main" in log
        assert "DOE^JANE" not in log + captured.err
        assert stat.S_IMODE(log_path(home).stat().st_mode) == 0o600


def test_debugging_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCMVAULT_DEBUG", "1")
    monkeypatch.setattr(cli, "command_group", lambda: _Raising(RuntimeError("why")))
    try:
        assert cli.run(["backup"]) == 1
    finally:
        stop_log()
    assert "RuntimeError: why" in capsys.readouterr().err


def test_the_language_is_known_before_the_first_word() -> None:
    assert "Usage:" in dcmvault("--help", LC_ALL="C").stdout
    for done in (
        dcmvault("--lang", "pt-BR", "config", "show", "--nonsense"),
        dcmvault("--lang=pt-BR", "config", "show", "--nonsense"),
        dcmvault("config", "show", "--nonsense", DCMVAULT_LANGUAGE="pt"),
        dcmvault("config", "show", "--nonsense", LC_ALL="pt_BR.UTF-8"),
    ):
        assert done.returncode == 2
        assert "config show --help` explica" in done.stderr
    assert "Uso: dcmvault" in dcmvault("--help", LC_ALL="pt_BR.UTF-8").stdout


def test_the_configured_language_is_used(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("language = 'pt-BR'\n")
    assert "Uso: dcmvault" in dcmvault("--help", LC_ALL="C").stdout


def test_a_closed_pipe_is_no_drama() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "dcmvault", "config", "show", "--effective"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.stderr == b""


def test_the_first_signal_asks_and_the_second_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stoppable() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_log_is_private_and_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_log(tmp_path / "state", verbose=True)
    start_log(tmp_path / "state", verbose=True)
    try:
        logging.getLogger("dcmvault.test").info("one")
        logging.getLogger("dcmvault.test").warning("two")
        logging.getLogger("pynetdicom").error("(0010,0010) PN [DOE^JANE]")
    finally:
        stop_log()
    path = log_path(tmp_path / "state")
    lines = path.read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["one", "two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "two" in capsys.readouterr().err


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "run.html"
    write_private(path, "a" * 100)
    write_private(path, "b")
    assert path.read_text() == "b"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["run.html"]


def test_tables_and_marks() -> None:
    text = click.unstyle(
        table(["Name", "Size"], [["a", "1"], ["bb", "1000"]], right=frozenset({1}))
    )
    assert text == "Name  Size\na        1\nbb    1000"
    assert [click.unstyle(mark(ok)) for ok in (True, False, None)] == ["✓", "✗", "·"]


@pytest.mark.parametrize(
    ("ago", "says"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=2), "2 days ago"),
        (timedelta(days=1500), "1,500 days ago"),
    ],
)
def test_ages(ago: timedelta, says: str) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    assert format_age(now - ago, now) == says
    assert format_age(None, now) == "never"


def test_config_init_and_show(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config", "init", "--source", "/studies", "--to", "dicom://A@h:1"]) == 0
    assert capsys.readouterr().out.strip() == str(home / "config.toml")
    assert cli.run(["config", "init"]) == 4
    assert "--force" in capsys.readouterr().err
    assert cli.run(["config", "check"]) == 0
    assert "1 source, 1 destination" in capsys.readouterr().out
    assert cli.run(["config", "show"]) == 0
    assert "[destinations.pacs]" in capsys.readouterr().out
    assert cli.run(["config", "show", "--effective"]) == 0
    effective = capsys.readouterr().out
    (home / "config.toml").write_text(effective)
    assert cli.run(["config", "show", "--effective"]) == 0
    assert capsys.readouterr().out == effective
    assert cli.run(["config", "show", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["settings"]["destinations"]["pacs"]["max_associations"] == 4


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_colour_where_nobody_wants_it(environ: dict[str, str], coloured: bool) -> None:
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "dcmvault", "doctor"],
        env={
            **{k: v for k, v in os.environ.items() if k != "NO_COLOR"},
            **environ,
            "TERM": "xterm",
        },
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    os.close(terminal)
    shown = os.read(controller, 65536)
    os.close(controller)
    assert done.returncode == 0
    assert (b"\x1b[" in shown) is coloured
