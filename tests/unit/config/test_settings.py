from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import cast

import pytest

from dcmvault import i18n
from dcmvault.cli.main import run
from dcmvault.config import secrets
from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.effective import effective, shown
from dcmvault.config.lines import line_of
from dcmvault.config.load import load_settings
from dcmvault.config.peer_sections import (
    DimseDestinationSection,
    OrthancCompanionSection,
    StowDestinationSection,
)
from dcmvault.config.places import configured_language, state_folder
from dcmvault.config.sections import FolderSourceSection
from dcmvault.config.settings import Settings
from dcmvault.config.template import render_template, write_template
from dcmvault.errors import AddressError, ConfigurationError
from dcmvault.model.bandwidth import RateTable, RateWindow
from dcmvault.model.evidence import Level
from dcmvault.model.plan import Sample
from dcmvault.model.report import Privacy

GOOD = """\
language = "pt-BR"
privacy = "ids"

[retry]
attempts = 5
wait_s = 1

[sources.main]
address = "/studies"
include_other_files = true

[destinations.pacs]
address = "dicom://ORTHANC@127.0.0.1:4242"
level = "complete"
max_associations = 8

[destinations.disk]
address = "/backup"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def refusal(config: Path, text: str) -> str:
    config.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    assert caught.value.exit_status == 4
    return caught.value.message


def test_no_file_means_the_defaults(config: Path) -> None:
    assert load_settings(config) == Settings()


def test_a_file_says_what_is_what(config: Path) -> None:
    config.write_text(GOOD, "utf-8")
    settings = load_settings(config)
    assert settings.language == "pt-BR"
    assert settings.privacy is Privacy.IDS
    assert settings.retry.attempts == 5
    assert settings.source("main") == FolderSourceSection(
        path=Path("/studies"), include_other_files=True
    )
    pacs = settings.destination("pacs")
    assert isinstance(pacs.section, DimseDestinationSection)
    assert (pacs.name, pacs.level, pacs.section.max_associations) == ("pacs", Level.COMPLETE, 8)
    disk = settings.destination("disk")
    assert (disk.section.address, disk.level) == ("/backup", None)


PLAN = """\
[sources.main]
address = "/studies"
[plans.nightly]
sources = ["main", "/more"]
destinations = ["/backup"]
"""


def test_a_plan_says_what_goes_where(config: Path) -> None:
    config.write_text(f'{PLAN}level = "proven"\npriority = "high"\n', "utf-8")
    plan = load_settings(config).plan("nightly")
    assert plan.sources == ("main", "/more")
    assert plan.destinations == ("/backup",)
    assert (plan.level, plan.strategy, plan.priority) == ("proven", "incremental", "high")
    shown = effective(load_settings(config))["plans"]
    assert shown == {"nightly": plan.model_dump(mode="json")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'{PLAN}level = "all"', "line 6, plans.nightly.level: Write one of: sent, present"),
        (f'{PLAN}strategy = "clever"', "plans.nightly.strategy: Write one of: full, incremental"),
        (f'{PLAN}priority = "now"', "plans.nightly.priority: Write one of: low, normal"),
        (
            f"{PLAN}sorces = []",
            "plans.nightly.sorces: There is no such key. Did you mean “sources”",
        ),
        (PLAN.replace('["/backup"]', "[]"), "plans.nightly.destinations: At least one is needed"),
        (PLAN.replace('["/backup"]', '"/backup"'), "must be a list of texts"),
        (PLAN.replace('"main",', '"mian",'), "plans.nightly.sources: “mian” is neither"),
        ('[plans.x]\nsources = ["/a"]', "plans.x.destinations: This key is needed."),
    ],
)
def test_what_a_plan_cannot_say(config: Path, text: str, says: str) -> None:
    assert says in refusal(config, text)


def test_an_unknown_plan_is_told_with_those_that_there_are(config: Path) -> None:
    with pytest.raises(AddressError, match="No plan is configured"):
        load_settings(config).plan("nightly")
    config.write_text(PLAN, "utf-8")
    with pytest.raises(AddressError) as caught:
        load_settings(config).plan("nightyl")
    assert caught.value.hint == "Did you mean “nightly”?"


WEB = """\
[destinations.web]
address = "dicomweb+https://pacs.example/dicom-web"
"""


@pytest.mark.parametrize(
    "options",
    [
        'user = "u"\npassword = "env:P"',
        'token = "file:/t"',
        'oauth2_token_url = "https://login/t"\noauth2_client_id = "c"\n'
        'oauth2_client_secret = "env:S"\noauth2_scope = "x"',
        'tls_ca_file = "/ca.pem"\ntls_certificate_file = "/c.pem"\ntls_key_file = "/k.pem"',
    ],
)
def test_ways_to_log_in_at_a_dicomweb_service(config: Path, options: str) -> None:
    config.write_text(f"{WEB}{options}\n", "utf-8")
    section = load_settings(config).destination("web").section
    assert isinstance(section, StowDestinationSection)
    assert section.address == "dicomweb+https://pacs.example/dicom-web"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ('user = "u"', "go together"),
        ('password = "env:P"', "go together"),
        ('user = "u"\npassword = "secret"', "write env:NAME or file:PATH"),
        ('token = "env:T"\nuser = "u"\npassword = "env:P"', "one way to log in"),
        ('oauth2_token_url = "https://login/t"', "OAuth2 needs"),
        ('oauth2_scope = "x"', "OAuth2 needs"),
        ('oauth2_token_url = "https://löwe.example/t"', "beyond ASCII"),
        ('oauth2_token_url = "https://login/a t"', "neither spaces"),
        (
            'oauth2_token_url = "http://login/t"\noauth2_client_id = "c"\n'
            'oauth2_client_secret = "env:S"',
            "HTTP without TLS",
        ),
        (
            'allow_plain_http = true\noauth2_token_url = "ftp://login/t"\n'
            'oauth2_client_id = "c"\noauth2_client_secret = "env:S"',
            "begins with https",
        ),
        ('tls_key_file = "/k.pem"', "needs its certificate"),
        ('url = "https://other"', "part of the address"),
        ("max_connections = 0", "at least 1"),
    ],
)
def test_what_does_not_fit_a_dicomweb_service(config: Path, options: str, says: str) -> None:
    assert says in refusal(config, f"{WEB}{options}\n")


def test_plain_http_is_allowed_on_purpose_only(config: Path) -> None:
    text = WEB.replace("https", "http")
    assert "HTTP without TLS" in refusal(config, text)
    assert "HTTP without TLS" in refusal(config, f"{text}allow_plain_http = false\n")
    config.write_text(f"{text}allow_plain_http = true\n", "utf-8")
    section = load_settings(config).destination("web").section
    assert section.address == "dicomweb+http://pacs.example/dicom-web"


def test_addresses_need_no_configuration() -> None:
    settings = Settings()
    assert settings.source("/studies").address == "/studies"
    unnamed = settings.destination("dicom://PACS@host:104")
    assert unnamed.name == unnamed.section.address == "dicom://PACS@host:104?calling=DCMVAULT"
    assert unnamed.level is None


def test_a_misspelt_name_is_not_a_folder(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config.write_text(GOOD, "utf-8")
    settings = load_settings(config)
    with pytest.raises(AddressError, match="neither a configured destination") as caught:
        settings.destination("pacz")
    assert "pacs" in caught.value.hint
    with pytest.raises(AddressError, match="neither a configured source") as caught:
        settings.source("studies")
    assert "./studies" in caught.value.hint
    (tmp_path / "studies").mkdir()
    assert settings.source("studies").address == str(tmp_path / "studies")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("privcy = 1", "line 1, privcy: There is no such key. Did you mean “privacy”?"),
        ("\n[retry]\natempts = 1", "line 3, retry.atempts: There is no such key. Did you mean “at"),
        ("[retry]\nattempts = 0", "line 2, retry.attempts: This must be at least 1."),
        ("[retry]\njitter = 0.9", "line 2, retry.jitter: This must be at most 0.5."),
        ("[retry]\nattempts = 'x'", "line 2, retry.attempts: This must be a whole number."),
        ("retry = 3", "line 1, retry: This must be a table."),
        ("retry = {attempts = 0}", "line 1, retry.attempts: This must be at least 1."),
        ("retry.attempts = 0", "line 1, retry.attempts: This must be at least 1."),
        ("[safe_to_delete]\ncopys = 3", "line 2, safe_to_delete.copys: There is no such key."),
        ("[safe_to_delete]\ncopies = 0", "line 2, safe_to_delete.copies: This must be at least 1."),
        (
            "[safe_to_delete]\nlevel = 'sent'",
            "line 2, safe_to_delete.level: Write one of: complete, committed, proven.",
        ),
        (
            "[safe_to_delete.levels]\n'/backup' = 'present'",
            "safe_to_delete.levels./backup: Write one of: complete, committed, proven.",
        ),
        ("[safe_to_delete.levels]\n'nfs:x' = 'proven'", "is no kind of address"),
        ("privacy = 'some'", "line 1, privacy: Write one of: off, ids, full."),
        ("language = 'fr'", "line 1, language: Write one of: en, pt-BR."),
        ("sources = 1", "line 1, sources: This must be a table"),
        ("[sources]\nmain = '/x'", "line 2, sources.main: This must be a table"),
        ("[sources.main]\n", "line 1, sources.main.address: An address is needed"),
        ("[sources.'a b']\naddress='/x'", "line 1, sources.a b: A name has letters"),
        (
            "[sources.main]\naddress = 'ftp://x'",
            "line 2, sources.main.address: “ftp:” is no kind of address.",
        ),
        (
            "[sources.main]\naddress = 'vault:/x'\npassphrse = 'env:X'",
            "line 3, sources.main.passphrse: There is no such key. Did you mean “passphrase”?",
        ),
        (
            "[destinations.v]\naddress = 'vault:/x'\nprofile = 'smal'",
            "line 3, destinations.v.profile: Write one of: fast, balanced, small, archive, auto.",
        ),
        (
            "[destinations.v]\naddress = 'vault:/x'\npassphrase = 'open sesame'",
            "line 3, destinations.v.passphrase: What opens it never stands here: write env:NAME",
        ),
        (
            "[destinations.v]\naddress = 'vault:/x'\nregion = 'eu-1'",
            "line 1, destinations.v: “region” is for s3:// only.",
        ),
        (
            "[destinations.v]\naddress = 'vault:/x'\nlocation = '/y'",
            "line 3, destinations.v.location: This is part of the address.",
        ),
        (
            "[sources.main]\naddress = '/x'\ninclude_other = true",
            "line 3, sources.main.include_other: There is no such key. "
            "Did you mean “include_other_files”?",
        ),
        (
            "[sources.main]\naddress = '/x'\ninclude_other_files = 'perhaps'",
            "line 3, sources.main.include_other_files: Write true or false.",
        ),
        (
            "[destinations.pacs]\naddress = 'dicom://A@h:1'\nmax_asociations = 2",
            "line 3, destinations.pacs.max_asociations: There is no such key. "
            "Did you mean “max_associations”?",
        ),
        (
            "[destinations.pacs]\naddress = 'dicom://A@h:1'\nmax_associations = 99",
            "line 3, destinations.pacs.max_associations: This must be at most 32.",
        ),
        (
            "[destinations.pacs]\naddress = 'dicom://A@h:1'\nport = 2",
            "line 3, destinations.pacs.port: This is part of the address.",
        ),
        (
            "[destinations.pacs]\naddress = 'dicom://A@h:1'\ntls_ca_file = '/ca.pem'",
            "“tls_ca_file” is for dicoms:// only.",
        ),
        (
            "[destinations.pacs]\naddress = 'dicoms://A@h'\ntls = false",
            "line 3, destinations.pacs.tls: This is part of the address.",
        ),
        (
            "[destinations.pacs]\naddress = 'dicoms://A@h'\ntls_fingerprint = 'AB:CD'",
            "line 3, destinations.pacs.tls_fingerprint: A SHA-256 fingerprint has 64",
        ),
        (
            f"[destinations.p]\naddress = 'dicoms://A@h'\ntls_ca_file = 'a'\n"
            f"tls_fingerprint = '{'0f' * 32}'",
            "a pinned certificate needs no other",
        ),
        (
            "[destinations.pacs]\naddress = 'dicoms://A@h'\ntls_key_file = '/key.pem'",
            "A private key needs its certificate",
        ),
        (
            "[destinations.p]\naddress = 'dicoms://A@h'\ntls_certificate_file = 'a'\n"
            "tls_key_passphrase = 'secret'",
            "line 4, destinations.p.tls_key_passphrase: What opens it never stands here",
        ),
        (
            "[destinations.pacs]\naddress = 'dicom://A@h:1'\nlevel = 'complet'",
            "Did you mean “complete”?",
        ),
        ("[destinations.pacs]\naddress = 'dicom://A@h:1'\nlevel = 3", "level: Write one of: sent,"),
        ("[destinations.d]\naddress = 5", "line 2, destinations.d.address: An address is needed"),
        ("bandwidth = 5", "line 1, bandwidth: Write a rate such as “2 MB/s”, in quotes, or a"),
        ("bandwidth = '2 Mb/s'", "line 1, bandwidth.rate: Write a rate such as “2 MB/s” or “16"),
        ("bandwidth.rate = '0 MB/s'", "line 1, bandwidth.rate: A rate is at least 8 kB/s"),
        (f"bandwidth.rate = '{'9' * 400} MB/s'", "line 1, bandwidth.rate: A rate is a number"),
        ("[bandwidth]\nrte = '1 MB/s'", "line 2, bandwidth.rte: There is no such key. Did you me"),
        ("[bandwidth]\nwindows = 'x'", "line 2, bandwidth.windows: This must be a list of tables."),
        (
            "[[bandwidth.windows]]\nfrom = '1:00'\nto = '02:00'\nrate = '1 MB/s'",
            "line 2, bandwidth.windows.0.from: Write a time of day such as “07:30”",
        ),
        (
            "[destinations.pacs]\naddress = 'dicom://A@h:1'\n"
            "[[destinations.pacs.bandwidth.windows]]\nfrom = '01:00'\nto = '02:00'\nrate='1 MB/s'\n"
            "[[destinations.pacs.bandwidth.windows]]\nfrom = '01:00'\nto = '02:00'\nday = 'mon'\n",
            "line 7, destinations.pacs.bandwidth.windows.1.rate: This key is needed.\n"
            "config.toml, line 10, destinations.pacs.bandwidth.windows.1.day: There is no such key."
            " Did you mean “days”?",
        ),
        (
            "[bandwidth]\nwindows = [{from = '24:00', to = '02:00', rate = '1 MB/s'}]",
            "line 2, bandwidth.windows.0.from: A window begins at 00:00, not at 24:00.",
        ),
        (
            "[bandwidth]\nwindows = [{from = '02:00', to = '02:00', rate = '1 MB/s'}]",
            "line 2, bandwidth.windows.0: A window ends at another time than it begins",
        ),
        (
            "[bandwidth]\nwindows = [{days = 'mo', from = '02:00', to = '03:00', rate = '1 MB/s'}]",
            "line 2, bandwidth.windows.0.days: Write days such as “mon-fri” or “sat,sun”",
        ),
        ("database = 'mysql://x'", "line 1, database: Write a postgresql:// URL"),
        ("database = 'postgresql://u:secret@h/d'", "line 1, database: A password does not belong"),
        ("database = 'postgresql://h/d?password=secret'", "A password does not belong"),
    ],
)
def test_an_error_names_its_line_and_key(config: Path, text: str, says: str) -> None:
    message = refusal(config, text)
    assert says in message
    assert "secret" not in message


def test_a_syntax_error_names_its_line(config: Path) -> None:
    assert "line 2" in refusal(config, 'language = "en"\nprivacy = off\n')


def test_all_errors_are_told_in_the_order_of_the_file(config: Path) -> None:
    message = refusal(
        config,
        "wrong = 1\n[destinations.p]\naddress = 'dicom://A@h:1'\nb = 1\n[sources.s]\na = 2\n",
    )
    lines = message.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "config.toml, line 1, wrong",
        "config.toml, line 4, destinations.p.b",
        "config.toml, line 5, sources.s.address",
    ]


def test_a_file_that_is_not_text_is_refused(config: Path) -> None:
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(config)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("t",), 3),
        (("t", "b"), 4),
        (("t", "x"), 3),
        (("t", "text"), 5),
        (("t", "after"), 8),
        (("t", "u v", "c"), 10),
        (("t", "d", "e"), 9),
        (("list",), 11),
        (("nothing",), 0),
    ],
)
def test_lines_of_keys(path: tuple[str, ...], line: int) -> None:
    text = (
        "a = 1\n# b = 2\n[t]\nb = 2\ntext = '''\nb = 3\n'''\nafter = 1\nd.e = 1\n[t.\"u v\"]\n"
    ).replace('[t."u v"]\n', '"u v".c = 1\n[[list]]\n')
    assert line_of(text, path) == line


def test_secrets_are_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://u:secret@h/d"
    monkeypatch.setenv("DCMVAULT_TEST_DATABASE", url)
    settings = Settings(database="env:DCMVAULT_TEST_DATABASE")
    assert settings.database_url() == url
    assert "secret" not in str(effective(settings))
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    file.chmod(0o600)
    assert Settings(database=f"file:{file}").database_url() == url
    assert Settings().database_url() == ""
    assert Settings(database="postgresql://h/d").database_url() == "postgresql://h/d"
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to other users"):
        secrets.resolve(f"file:{file}")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        secrets.resolve(f"file:{tmp_path}/none")
    monkeypatch.setenv("DCMVAULT_TEST_DATABASE", "")
    with pytest.raises(ConfigurationError, match="is not set"):
        settings.database_url()
    monkeypatch.setenv("DCMVAULT_TEST_DATABASE", os.fsdecode(b"caf\xe9"))
    with pytest.raises(ConfigurationError, match="not UTF-8") as caught:
        settings.database_url()
    assert "caf" not in f"{caught.value.message}{caught.value.hint}"
    monkeypatch.setenv("DCMVAULT_TEST_DATABASE", "sqlite://")
    with pytest.raises(ConfigurationError, match="not a postgresql"):
        settings.database_url()
    with pytest.raises(ConfigurationError, match="reference"):
        secrets.resolve("plain")
    file.write_text("")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="is empty"):
        secrets.resolve(f"file:{file}")


def test_the_effective_settings_load_again(config: Path) -> None:
    config.write_text(GOOD, "utf-8")
    values = effective(load_settings(config))
    assert values["privacy"] == "ids"
    destinations = values["destinations"]
    assert isinstance(destinations, dict)
    assert destinations["pacs"] == {
        "address": "dicom://ORTHANC@127.0.0.1:4242?calling=DCMVAULT",
        "level": "complete",
        "max_associations": 8,
        "network": "",
        "user": "",
        "password": "",
        "connect_timeout_s": 10.0,
        "association_timeout_s": 30.0,
        "dimse_timeout_s": 60.0,
        "async_window": 1,
        "transcode": "lossless",
        "coerced": "",
        "retrieve": "get",
        "move_to": "",
        "move_port": 0,
        "move_host": "",
        "orthanc": OrthancCompanionSection().model_dump(mode="json"),
        "commitment_timeout_s": 60.0,
        "commitment_port": 0,
        "commitment_host": "",
        "bandwidth": {"rate": "unlimited", "windows": []},
        "tls_ca_file": "",
        "tls_fingerprint": "",
        "tls_certificate_file": "",
        "tls_key_file": "",
        "tls_key_passphrase": "",
        "reverify_after": "",
        "reverify_share": "",
    }


def test_how_old_evidence_may_be(config: Path) -> None:
    config.write_text(
        "[destinations.disk]\naddress = '/b'\nreverify_after = '8w'\nreverify_share = '2.5%'\n"
        "[destinations.pacs]\naddress = 'dicom://A@h'\nreverify_share = '200'\n",
        "utf-8",
    )
    settings = load_settings(config)
    disk, pacs = settings.destinations["disk"], settings.destinations["pacs"]
    assert disk.due == Sample(share=0.025, older_than_s=8 * 7 * 86_400)
    assert pacs.due == Sample(studies=200)
    assert settings.configured(pacs.section.address) is pacs
    assert settings.configured("/elsewhere") is None
    # Older than any calendar is a century.
    config.write_text("[destinations.disk]\naddress = '/b'\nreverify_after = '999999w'\n", "utf-8")
    assert load_settings(config).destinations["disk"].due == Sample(older_than_s=36_500 * 86_400)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("reverify_after = '30'", "line 3, destinations.pacs.reverify_after: Write an age"),
        ("reverify_after = 30", "line 3, destinations.pacs.reverify_after: This must be a text"),
        ("reverify_share = '101%'", "line 3, destinations.pacs.reverify_share: Write a share"),
        ("reverify_shar = '5%'", "Did you mean “reverify_share”"),
        ("commitment_port = 70000", "commitment_port: This must be at most 65535"),
        ("commitment_timeout_s = 0", "commitment_timeout_s: This must be more than 0"),
    ],
)
def test_what_is_wrong_about_evidence_is_named(config: Path, line: str, reason: str) -> None:
    config.write_text(f"[destinations.pacs]\naddress = 'dicom://A@h'\n{line}\n", "utf-8")
    with pytest.raises(ConfigurationError) as raised:
        load_settings(config)
    assert reason in raised.value.message


def test_reports_of_commitment_do_not_come_without_tls(config: Path) -> None:
    config.write_text(
        "[destinations.pacs]\naddress = 'dicoms://A@h'\ncommitment_port = 11114\n", "utf-8"
    )
    with pytest.raises(ConfigurationError, match="would come back without TLS"):
        load_settings(config)


@pytest.mark.parametrize(
    "written", ["0F" * 32, ":".join(["0f"] * 32), "SHA256:" + "0F" * 32, " sha-256=" + "0f" * 32]
)
def test_a_fingerprint_is_read_as_tools_write_it(config: Path, written: str) -> None:
    config.write_text(
        f"[destinations.pacs]\naddress = 'dicoms://A@h'\ntls_fingerprint = '{written}'\n", "utf-8"
    )
    section = load_settings(config).destination("pacs").section
    assert isinstance(section, DimseDestinationSection)
    assert section.tls_fingerprint == "0f" * 32


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_the_template_is_a_sound_configuration(config: Path, language: str) -> None:
    i18n.use_language(language)
    try:
        write_template(config, render_template())
        assert load_settings(config) == Settings()
        text = render_template(
            language="pt-BR",
            sources=["/studies", 'horos:/with "quotes"'],
            destinations=["dicom://A@h:1", "dicom://B@h:1", "/backup", "vault:/vault"],
        )
    finally:
        i18n.use_language("en")
    write_template(config, text, force=True)
    settings = load_settings(config)
    assert settings.language == "pt-BR"
    assert [section.address for section in settings.sources.values()] == [
        "/studies",
        'horos:/with "quotes"',
    ]
    assert {name: one.level for name, one in settings.destinations.items()} == {
        "pacs": Level.COMPLETE,
        "pacs2": Level.COMPLETE,
        "disk": Level.PROVEN,
        "vault": Level.COMPLETE,
    }
    uncommented = "\n".join(
        line.removeprefix("# ")
        if re.match(
            r"# (\[|(address|channel|client|command|destinations|events|expected|host|issuer|level"
            r"|max|mod|name|on_failure|pass|plans|prio|prof|redirect|role|sender|sources|strategy"
            r"|timeout|tls|to|url|user|words)\w* = "
            r"|(plan|cron|window|closed|open|rates|urgent|time_zone|study_days) = )",
            line,
        )
        else line
        for line in render_template().splitlines()
    )
    write_template(config, uncommented, force=True)
    assert set(load_settings(config).destinations) == {
        *("pacs", "pacs-over-tls", "web", "disk", "vault"),
    }
    assert load_settings(config).schedules["nightly"].window == "office"


def test_the_template_is_private_and_never_overwritten(tmp_path: Path) -> None:
    config = tmp_path / "home" / "config.toml"
    write_template(config, "privacy = 'ids'\n")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    with pytest.raises(ConfigurationError, match="already"):
        write_template(config, "")
    assert load_settings(config).privacy is Privacy.IDS
    assert [entry.name for entry in config.parent.iterdir()] == ["config.toml"]
    blocked = config / "deeper" / "config.toml"
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_template(blocked, "")


def test_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DCMVAULT_HOME", f"{tmp_path}/x/../home/")
    assert state_folder() == tmp_path / "home"
    monkeypatch.delenv("DCMVAULT_HOME")
    assert state_folder().name == "dcmvault"


def test_the_configured_language_never_raises(config: Path) -> None:
    assert configured_language(config) == ""
    config.write_text("language = 'pt-BR'\nother = 1")
    assert configured_language(config) == "pt-BR"
    config.write_text("language = 5")
    assert configured_language(config) == ""
    config.write_text("language = ")
    assert configured_language(config) == ""


BANDWIDTH = """\
[bandwidth]
rate = "16 Mbit/s"

[[bandwidth.windows]]
days = "mon-fri"
from = "07:00"
to = "19:00"
rate = "500 kB/s"

[destinations.pacs]
address = "dicom://A@h:1"
bandwidth = "2 MiB/s"

[destinations.disk]
address = "/backup"
bandwidth = {windows = [{from = "22:00", to = "06:00", rate = "unlimited"}]}
"""


def test_bandwidths_are_rates_by_time(config: Path) -> None:
    config.write_text(BANDWIDTH, "utf-8")
    settings = load_settings(config)
    assert settings.bandwidth.table() == RateTable(
        2e6, (RateWindow(frozenset(range(5)), 7 * 60, 19 * 60, 5e5),)
    )
    pacs = settings.destination("pacs").section
    assert pacs.bandwidth.table() == RateTable(2 * 1024**2)
    disk = settings.destination("disk").section
    night = RateWindow(frozenset(range(7)), 22 * 60, 6 * 60, None)
    assert disk.bandwidth.table() == RateTable(None, (night,))
    assert settings.destination("/elsewhere").section.bandwidth.table().is_unlimited


def test_bandwidths_in_force_are_shown_as_a_configuration(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCMVAULT_HOME", str(config.parent))
    config.write_text(BANDWIDTH, "utf-8")
    assert run(["config", "show", "--effective"]) == 0
    shown = capsys.readouterr().out
    before = load_settings(config)
    config.write_text(shown, "utf-8")
    assert load_settings(config) == before


@pytest.mark.parametrize(
    ("days", "means"),
    [("sat,sun", {5, 6}), ("fri-mon", {4, 5, 6, 0}), ("mon-wed, fri", {0, 1, 2, 4}), ("sun", {6})],
)
def test_days_are_ranges_and_lists(days: str, means: set[int]) -> None:
    table = BandwidthSection.model_validate(
        {"windows": [{"days": days, "from": "00:00", "to": "24:00", "rate": "1 MB/s"}]}
    ).table()
    assert table.windows[0].days == means


def test_a_url_that_is_a_secret_is_shown_without_what_makes_it_one(config: Path) -> None:
    config.write_text("""
[notifications.programs]
channel = "webhook"
url = "https://hooks.example.org:8443/services/T0/B0/very-secret?key=more-secret"
[notifications.dead-man]
channel = "healthchecks"
url = "https://hc.example.org/very-secret"
[notifications.bare]
channel = "webhook"
url = "https://bare.example.org"
[notifications.kept]
channel = "webhook"
url = "env:HOOK_URL"
""")
    channels = cast(dict[str, dict[str, str]], shown(load_settings(config))["notifications"])
    assert {name: one["url"] for name, one in channels.items()} == {
        "programs": "https://hooks.example.org:8443/...",
        "dead-man": "https://hc.example.org/...",
        "bare": "https://bare.example.org",
        "kept": "env:HOOK_URL",
    }
    assert "secret" not in str({name: one["url"] for name, one in channels.items()})
    # What changed is still seen where the configuration is read again.
    assert "very-secret" in str(effective(load_settings(config)))


def test_a_word_that_is_too_long_for_a_file_is_no_folder(config: Path) -> None:
    """The file system is not asked for it in a way that fails."""
    config.write_text(GOOD, "utf-8")
    with pytest.raises(AddressError, match="neither a configured destination"):
        load_settings(config).destination("9" * 5000)
