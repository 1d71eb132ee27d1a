from __future__ import annotations

import contextlib
import os
import re
import time
import tomllib
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.errors import Conflict, Invalid
from gateway.folder import require_folder
from gateway.settings import LOCAL_NAMES, SECTIONS, Settings, write_initial
from gateway.sources import Values, line_of, masked

REFERENCE = Path(__file__).parent.parent / "config" / "gateway.toml"


def load(folder: Path, text: str, **environment: str) -> Settings:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, environment)


def refusal(folder: Path, text: str, **environment: str) -> str:
    with pytest.raises(Invalid) as raised:
        load(folder, text, **environment)
    return raised.value.message


def uncommented() -> str:
    return re.sub(r"^#(?=[a-z_]+ = )", "", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_reference_lists_every_setting_and_no_other() -> None:
    listed = {section: set(content) for section, content in tomllib.loads(uncommented()).items()}
    assert listed == {section: set(kind.__struct_fields__) for section, kind in SECTIONS.items()}


def test_reference_shows_every_default(tmp_path: Path) -> None:
    shown = load(tmp_path, uncommented())
    defaults = load(tmp_path, "")
    assert shown == defaults


def test_reference_sets_nothing_itself() -> None:
    assert not any(tomllib.loads(REFERENCE.read_text(encoding="utf-8")).values())


def test_data_directory_without_file_has_defaults_and_its_own_database(tmp_path: Path) -> None:
    settings = Settings.for_data(tmp_path / "data", {})
    assert settings.data == tmp_path / "data"
    assert settings.database.url == f"sqlite:///{tmp_path}/data/gateway.db"
    assert settings.database.migrate_url == settings.database.url
    assert settings.tls == tmp_path / "data" / "tls"
    assert settings.server.development
    assert settings.addresses[:2] == ("localhost:5000", "registry.local:5000")
    assert settings.server.names == LOCAL_NAMES
    assert (settings.server.bind, settings.tokens.lifetime_seconds, settings.limits.manifest_bytes) == (
        "127.0.0.1",
        300,
        4 * 1024 * 1024,
    )


def test_production_settings_are_read_and_paths_start_at_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [server]
        names = ["registry.company.com"]
        bind = "0.0.0.0"
        port = 8443
        external_port = 443
        certificate = "tls/chain.pem"
        key = "/etc/ssl/key.pem"
        trusted_proxies = ["10.1.0.0/16", "fd00::/8"]
        [engine]
        root = "../elsewhere"
        [database]
        url = "sqlite:///records/g.db"
        """,
    )
    assert settings.address == "registry.company.com"
    assert settings.server.certificate == tmp_path / "tls" / "chain.pem"
    assert settings.server.key == Path("/etc/ssl/key.pem")
    assert not settings.server.development
    assert [str(network) for network in settings.server.networks] == ["10.1.0.0/16", "fd00::/8"]
    assert settings.data == tmp_path.parent / "elsewhere"
    assert settings.database.url == f"sqlite:///{tmp_path}/records/g.db"
    assert settings.file == tmp_path / "gateway.toml"


def test_the_command_of_settings_names_the_options_that_lead_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "the data"
    assert Settings.for_data(folder, {}).command == f"gateway --data '{folder}'"
    folder.mkdir()
    (folder / "gateway.toml").touch()
    assert Settings.for_data(folder, {}).command == f"gateway --data '{folder}'"
    other = tmp_path / "c1.toml"
    other.write_text('[engine]\nroot = "the data"\n')
    assert Settings.load(other, {}).command == f"gateway --config {other}"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("\n[server]\nprot = 1\n", 3, "[server] prot is no setting of the gateway; did you mean port?"),
        ("[server]\n\n[sevrer]\nport = 1\n", 3, "[sevrer] is no section of the gateway; did you mean server?"),
        ("port = 1\n", 1, "port is no setting"),
        ("server = 5\n", 1, "server is a section"),
        ('[server]\nport = "5000"\n', 2, "[server] port must be a port number, 1 to 65535"),
        ("[server]\nport = true\n", 2, "[server] port must be a port number"),
        ("[server]\n# port = 1\nport = 65536\n", 3, "[server] port must be a port number"),
        ('[server]\nnames = [\n  "a",\n  5,\n]\n', 2, "[server] names must be a list of texts"),
        ("[server]\nnames = []\n", 2, "[server] names needs at least one"),
        ('[server]\nnames = ["a:5000"]\n', 2, "[server] names has 'a:5000'"),
        ('[server]\nnames = ["*.example.com"]\n', 2, "no host name"),
        ('[server]\nnames = ["Registry.local"]\n', 2, "in lower case"),
        ('[server]\nnames = ["1.2.3"]\n', 2, "no host name"),
        ('[server]\nbind = "localhost"\n', 2, "[server] bind must be an address"),
        ('[server]\ntrusted_proxies = ["10.1.2.3/16"]\n', 2, "no network"),
        ('[server]\nport = 1\nkey = "k.pem"\n', 3, "[server] key needs certificate beside it"),
        ('[server]\ncertificate = "c.pem"\n', 2, "[server] certificate needs key beside it"),
        ('"server"."workers" = -1\n', 1, "[server] workers must be a number of processes"),
        ("tokens = { issuer = 'a', lifetime_seconds = 59 }\n", 1, "[tokens] lifetime_seconds must be"),
        ("[tokens]\nlifetime_seconds = 901\n", 2, "60 to 900"),
        ('[tokens]\nissuer = ""\n', 2, "1 to 255 characters"),
        ('[audit]\nmode = "best_effort"\n', 2, '[audit] mode must be "strict"'),
        ('[engine]\nkind = "s3"\n', 2, '[engine] kind must be "embedded" or "upstream"'),
        ('[logging]\nlevel = "loud"\n', 2, '[logging] level must be "debug", "info", "warning" or "error"'),
        ("[limits]\nmanifest_bytes = 1.5\n", 2, "[limits] manifest_bytes must be a number of bytes"),
        ("[limits]\nfree_bytes = -1\n", 2, "[limits] free_bytes must be a number of bytes, or 0"),
        ("[server]\nport = 1\nport = 2\n", 3, "not TOML"),
        ("[server\n", 1, "not TOML"),
        ('[server]\nbind = "127\n', 2, "not TOML"),
        ("[database]\nurl = 'mysql://u:pw@h/d'\n", 2, "[database] url must hold sqlite:///FILE or postgresql://"),
        ("[database]\nmigrate_url = 'postgresql://h/d'\n", 2, "leave it away with SQLite"),
    ],
)
def test_wrong_setting_is_refused_with_key_and_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path}/gateway.toml, line {line}: ")
    assert says in message
    assert "pw" not in message.removeprefix(str(tmp_path))
    assert message[-1] in ".?"


UPSTREAM = '[engine]\nkind = "upstream"\nurl = "https://registry.internal"\n'


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[engine]\nkind = "upstream"\n', 2, '[engine] kind is "upstream", which needs url beside it'),
        ('[engine]\nkind = "embedded"\nurl = "http://h"\n', 3, '[engine] url is for kind = "upstream"'),
        ('[engine]\n\nusername = "u"\n', 3, '[engine] username is for kind = "upstream"'),
        ('[engine]\npassword = "pw"\n', 2, '[engine] password is for kind = "upstream"'),
        ('[engine]\npassword_file = "secret"\n', 2, '[engine] password_file is for kind = "upstream"'),
        ('[engine]\nca_file = "ca.pem"\n', 2, '[engine] ca_file is for kind = "upstream"'),
        ('[engine]\nvolume = "registry"\n', 2, '[engine] volume is for kind = "upstream"'),
        (f'{UPSTREAM}volume = "none"\n', 4, "[engine] volume names"),
        (f'{UPSTREAM}volume = "gateway.toml"\n', 4, "which is no directory"),
        (f'{UPSTREAM}username = "u"\n', 4, "[engine] username needs password_file or password beside it"),
        (f'{UPSTREAM}password = "pw"\n', 4, "[engine] password needs username beside it"),
        (f'{UPSTREAM}username = "u:v"\npassword = "pw"\n', 4, "[engine] username must have no ':'"),
        (f'{UPSTREAM}username = "u"\npassword = "pw\\n"\n', 5, "[engine] password must hold one line"),
        (f'{UPSTREAM}username = "u"\npassword = "pw"\npassword_file = "p"\n', 5, "[engine] password is given twice"),
        (f'{UPSTREAM}ca_file = "none.pem"\n', 4, "[engine] ca_file names"),
        (f'{UPSTREAM}ca_file = "gateway.toml"\n', 4, "holds no certificate in PEM"),
        (
            f'{UPSTREAM.replace("https", "http")}ca_file = "gateway.toml"\n',
            4,
            "ca_file is for a url that begins with https",
        ),
    ],
)
def test_wrong_engine_is_refused_with_key_and_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path}/gateway.toml, line {line}: ")
    assert says in message
    assert "pw" not in message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://u:s3cret@registry.internal", "belong into username and password_file"),
        ("https://s3cret@registry.internal", "belong into username and password_file"),
        ("ftp://registry.internal", "must begin with http:// or https://"),
        ("unix:///run/s3cret.sock", "must be the address of a registry"),
        ("registry.internal:5000", "must be the address of a registry"),
        ("//registry.internal", "must begin with http:// or https://"),
        ("http://", "must be the address of a registry"),
        ("http://:5000", "must be the address of a registry"),
        ("http://registry.internal:", "must be the address of a registry"),
        ("http://registry.internal:0", "must be the address of a registry"),
        ("http://registry.internal:65536", "must be the address of a registry"),
        ("http://registry.internal:80x", "must be the address of a registry"),
        ("http://10.0.0.256", "must be the address of a registry"),
        ("http://[::1", "must be the address of a registry"),
        ("http://[fe80::1%eth0]", "must be the address of a registry"),
        ("http://registry internal", "must be the address of a registry"),
        ("http://registry.internal\\n", "must be the address of a registry"),
        ("http://registry.internal\\\\@elsewhere", "belong into username and password_file"),
        ("http://registry.internal/v2", "must end before /v2"),
        ("http://registry.internal/v2/", "must end before /v2"),
        ("http://registry.internal/a/../b", "must end before /v2"),
        ("http://registry.internal//a", "must begin with http:// or https://"),
        ("http://registry.internal/%2e%2e", "must be the address of a registry"),
        ("http://registry.internal?s3cret", "no '?' or '#'"),
        ("http://registry.internal#s3cret", "no '?' or '#'"),
    ],
)
def test_wrong_address_of_the_registry_behind_is_refused_unshown(tmp_path: Path, url: str, says: str) -> None:
    message = refusal(tmp_path, f'[engine]\nkind = "upstream"\nurl = "{url}"\n')
    assert message.startswith(f"{tmp_path}/gateway.toml, line 3: [engine] url ")
    assert says in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
        ("https://Registry.Internal/", "https://registry.internal"),
        ("https://registry.internal:8443/team/Docker/", "https://registry.internal:8443/team/Docker"),
        ("http://[::1]:5001/", "http://[::1]:5001"),
    ],
)
def test_address_of_the_registry_behind_is_kept_without_the_slash_at_its_end(
    tmp_path: Path, url: str, kept: str
) -> None:
    settings = load(tmp_path, f'[engine]\nkind = "upstream"\nurl = "{url}"\n')
    assert (settings.engine.kind, settings.engine.url) == ("upstream", kept)
    assert settings.data == tmp_path


def test_upstream_password_is_read_from_a_private_file_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    secret = tmp_path / "keys" / "upstream"
    secret.write_text("s3cret wörd\n", encoding="utf-8")
    secret.chmod(0o600)
    settings = load(tmp_path, f'{UPSTREAM}username = "gateway"\npassword_file = "keys/upstream"\n')
    assert (settings.engine.username, settings.engine.password) == ("gateway", "s3cret wörd")
    assert "s3cret" not in f"{settings!r} {settings} {settings.engine} {settings.shown()}"
    assert settings.shown()["engine"] == {
        "kind": "upstream",
        "root": str(tmp_path),
        "url": "https://registry.internal",
        "username": "gateway",
        "password": "***",
        "password_file": str(secret),
        "ca_file": "",
        "volume": "",
    }
    given = load(tmp_path, UPSTREAM, GATEWAY_ENGINE__USERNAME="u", GATEWAY_ENGINE__PASSWORD="s3cret")
    assert given.engine.password == "s3cret"
    assert "s3cret" not in f"{given!r} {given} {given.engine} {given.shown()}"


def test_upstream_password_file_is_its_owners_alone_and_holds_something(tmp_path: Path) -> None:
    text = f'{UPSTREAM}username = "gateway"\npassword_file = "secret"\n'
    assert "line 5: [engine] password_file names" in refusal(tmp_path, text)
    secret = tmp_path / "secret"
    secret.touch(0o600)
    assert "which is empty" in refusal(tmp_path, text)
    secret.write_text("s3cret", encoding="utf-8")
    secret.chmod(0o640)
    message = refusal(tmp_path, text)
    assert "chmod 600" in message
    assert "s3cret" not in message


def test_upstream_authority_is_read_as_the_client_will(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = load(tmp_path, f'{UPSTREAM}ca_file = "ca.pem"\n')
    assert settings.engine.ca_file == tmp_path / "ca.pem"


def test_the_volume_of_the_registry_behind_is_a_folder_from_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    settings = load(tmp_path, f'{UPSTREAM}volume = "registry"\n')
    assert settings.engine.volume == tmp_path / "registry"
    assert settings.shown()["engine"]["volume"] == str(tmp_path / "registry")


def test_file_that_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"[server]\n# caf\xe9\n")
    with pytest.raises(Invalid, match="line 2: not UTF-8 text"):
        Settings.load(path, {})


LISTS, TABLES = "[" * 100_000 + "]" * 100_000, "{a=" * 60_000 + "1" + "}" * 60_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"[server]\nnames = {LISTS}\n", "gateway.toml: lists or tables are nested more than 32 deep"),
        (f"[server]\nnames = {TABLES}\n", "gateway.toml: lists or tables are nested more than 32 deep"),
        (f"[server]\nnames = {'[' * 100}{']' * 100}\n", "gateway.toml: lists or tables are nested more than 32 deep"),
        (f"[server]\nnames = {'[' * 31}{']' * 31}\n", "gateway.toml: lists or tables are nested more than 32 deep"),
        (f"[server]\nnames = {'[' * 30}{']' * 30}\n", "line 2: [server] names must be a list of texts"),
        (f"\n{'a.' * 50_000}a = 1\n", "gateway.toml, line 2: a key of more than 32 parts"),
        ("[server]\n" + " . ".join(["'a.b'", '"c"'] * 8_000) + " = 1\n", "line 2: a key of more than 32 parts"),
        (f"[{'a.' * 50_000}a]\n", "gateway.toml, line 1: a key of more than 32 parts"),
        (f"[server]\nport = {'1' * 100_000}\n", "gateway.toml: a number is longer than any setting"),
        ("[server]\nnames = [\n" + "1,\n" * 60_000 + "]\n", "gateway.toml: [server] names must be a list of texts"),
        (f"# {'-' * 300_000}\n", "gateway.toml is longer than 256 KiB: that is no file of settings"),
    ],
    ids=[
        "lists",
        "tables",
        "a few lists",
        "one too many",
        "just enough",
        "dots",
        "quoted dots",
        "a dotted section",
        "digits",
        "lines",
        "bytes",
    ],
)
@pytest.mark.timeout(30)
def test_a_file_that_no_settings_need_is_refused_in_a_moment(tmp_path: Path, text: str, says: str) -> None:
    message = refusal(tmp_path, text)
    assert says in message
    assert len(message) < 300
    assert "\n" not in message


MANY = ".".join(["a"] * 40)
KEYS = ".".join(["'a.#'", r'"\"b"', "c", "d-1"] * 8_000)


@pytest.mark.parametrize(
    "text",
    [
        f"# {MANY} = 1\n[server] # {MANY}\n",
        f'[server]\nnames = "{MANY}"\n',
        f"[server]\nnames = '{MANY}'\nport = 1 # {MANY}\n",
        f'[server]\nnames = "\\"{MANY}\\" {MANY}" # "{MANY}\n',
        f'[server]\nnames = """\n{MANY} = 1\n""{MANY}\\"""{MANY}"""""\n# {MANY}\n',
        f"[server]\nnames = '''\n{MANY} = 1\n[{MANY}]\n\\'''''\n# don't {MANY}\n",
        f'[server]\nnames = ["a.example", # {MANY}\n  "{MANY}"] # {MANY}\n',
    ],
    ids=["comment", "text", "literal", "escapes", "many lines", "many literal lines", "list"],
)
def test_words_with_dots_in_a_comment_or_a_text_are_no_key(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text, encoding="utf-8")
    assert Values.read(file, SECTIONS, {}).found == tomllib.loads(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"[server]\n  {KEYS} = 1\n", 2),
        (f" [ {KEYS} ]\n", 1),
        (f"[[{KEYS}]]\n", 1),
        (f"[server]\nx = {{ a = 'b', {KEYS} = 1 }}\n", 2),
        (f"[server]\nx = [\n{{{KEYS} = 1}}]\n", 3),
        (f'x = """"\n"""""\n{KEYS} = 1\n', 3),
        (f"x = ''''\n'''''\n{KEYS} = 1\n", 3),
        (f"x = '' # '\n{KEYS} = 1\n", 2),
        (f'x = "#" # "\n{KEYS} = 1\n', 2),
        (f'x = "\\\\"\n{KEYS} = 1\n', 2),
        (f'x = "a"\r\n{KEYS} = 1\r\n', 2),
    ],
)
@pytest.mark.timeout(30)
def test_a_key_of_many_parts_is_refused_wherever_it_stands(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(text.encode())
    with pytest.raises(Invalid, match=f"line {line}: a key of more than 32 parts"):
        Settings.load(path, {})


@pytest.mark.parametrize("begins", ["", "x = ", '"', "'", "a" + ".a" * 30 + "."])
@pytest.mark.parametrize(
    "part", ['"', "'", '\\"', '"\\', "\"'", "a.", 'a."', "a.'", '"a".', "a .", '"""\\', "#", "'a'" + "." * 9, '""".']
)
def test_what_is_no_toml_is_refused_in_a_moment(tmp_path: Path, begins: str, part: str) -> None:
    begun = time.process_time()
    with contextlib.suppress(Invalid):
        load(tmp_path, begins + part * (250_000 // len(part)))
    assert time.process_time() - begun < 3


@pytest.mark.timeout(30)
def test_a_pipe_or_device_is_no_settings_file_and_no_secret(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(Invalid, match="cannot be read: it is no regular file"):
            Settings.load(path, {})
    message = refusal(tmp_path, "[database]\nurl_file = 'pipe'\n")
    assert "line 2: [database] url_file names" in message
    assert "it is no regular file" in message


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no such file"):
        Settings.load(tmp_path / "none.toml", {})


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[server]\nport = 'wrong, but nobody reads it'\n",
        GATEWAY_SERVER__PORT="6000",
        GATEWAY_SERVER__NAMES="a.example, b.example",
        GATEWAY_LOGGING__FORMAT="json",
        GATEWAY_SERVER__TRUSTED_PROXIES="",
        GATEWAY_HOME="/not/ours",
        GATEWAY_SERVER_PORT="tcp://10.0.0.1:5000",
    )
    assert settings.server.port == 6000
    assert settings.server.names == ("a.example", "b.example")
    assert settings.server.trusted_proxies == ()
    assert settings.logging.format == "json"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("GATEWAY_SERVER__PRT", "1", "did you mean GATEWAY_SERVER__PORT?"),
        ("GATEWAY_server__port", "1", "GATEWAY_SERVER__PORT"),
        ("GATEWAY_SERVER_PORT", "8443", "did you mean GATEWAY_SERVER__PORT?"),
        ("GATEWAY_LIMITS_MANIFEST_BYTES", "1", "did you mean GATEWAY_LIMITS__MANIFEST_BYTES?"),
        ("GATEWAY_NOTHING__AT_ALL", "1", "no setting"),
        ("GATEWAY_SERVER__PORT", "many", "GATEWAY_SERVER__PORT must be a port number"),
        ("GATEWAY_SERVER__BIND", "", "GATEWAY_SERVER__BIND must be an address"),
    ],
)
def test_wrong_variable_is_refused_by_name(tmp_path: Path, name: str, value: str, says: str) -> None:
    assert says in refusal(tmp_path, "", **{name: value})


@pytest.mark.parametrize("name", ["what?", "100%", "a%20b"])
def test_path_that_would_not_survive_as_a_url_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="choose another path"):
        Settings.for_data(tmp_path / name, {})


def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    assert os.getuid() == 0, "the tests of real clients run as root, and so does this"
    folder = tmp_path / "theirs" / "data"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(Invalid, match="cannot be read"):
            Settings.for_data(folder, {})
        with pytest.raises(Invalid, match="cannot be read: permission denied"):
            require_folder(folder, make=False)
        with pytest.raises(Invalid, match="cannot be made: permission denied"):
            require_folder(folder / "x", make=True)
    finally:
        os.seteuid(0)


def test_database_url_is_read_from_a_private_file_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://gateway:s3cret@db/gateway?password=s3cret\n", encoding="utf-8")
    secret.chmod(0o600)
    settings = load(tmp_path, '[database]\nurl_file = "url"\n')
    assert settings.database.url == "postgresql://gateway:s3cret@db/gateway?password=s3cret"
    assert "s3cret" not in f"{settings!r} {settings} {settings.shown()} {settings.database}"
    assert settings.shown()["database"]["url"] == "postgresql://gateway:***@db/gateway?***"


def test_a_key_in_the_address_for_traces_is_used_and_never_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, '[metrics]\ntrace_endpoint = "https://otel.internal/v1/traces?key=s3cret"\n')
    assert settings.metrics.trace_endpoint == "https://otel.internal/v1/traces?key=s3cret"
    assert "s3cret" not in f"{settings!r} {settings} {settings.shown()} {settings.metrics}"
    assert settings.shown()["metrics"]["trace_endpoint"] == "https://otel.internal/v1/traces?***"


@pytest.mark.parametrize(
    "url",
    ["otel", "https:///x", "https://u:s3cret@a/", "https://s3cret@a/", "https://u:s3cret/@a", "https://a/#s3cret"],
)
def test_an_address_for_traces_holds_no_name_or_password(tmp_path: Path, url: str) -> None:
    message = refusal(tmp_path, f'[metrics]\n\ntrace_endpoint = "{url}"\n')
    assert "line 3: [metrics] trace_endpoint must be a URL without name, password" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_secret_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://gateway:s3cret@db/gateway", encoding="utf-8")
    secret.chmod(mode)
    message = refusal(tmp_path, '[database]\n\nurl_file = "url"\n')
    assert "line 3: [database] url_file names" in message
    assert "chmod 600" in message
    assert "s3cret" not in message


def test_secret_file_must_exist_hold_something_and_be_the_only_source(tmp_path: Path) -> None:
    assert "cannot be read: no such file" in refusal(tmp_path, '[database]\nurl_file = "url"\n')
    (tmp_path / "url").touch(0o600)
    assert "which is empty" in refusal(tmp_path, '[database]\nurl_file = "url"\n')
    assert "given twice" in refusal(tmp_path, '[database]\nurl = "sqlite:///x"\nurl_file = "url"\n')


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////a/b@c:d.db", "sqlite:////a/b@c:d.db"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p@ss:w@h:5432/d", "postgresql://u:***@h:5432/d"),
    ],
)
def test_masked_url_keeps_all_but_the_secret(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_initial_file_holds_what_was_given_and_is_found_again(tmp_path: Path) -> None:
    path = write_initial(tmp_path, names=("Gateway.Example",), port=6443, bind="0.0.0.0", workers=2)
    settings = Settings.for_data(tmp_path, {})
    assert settings.file == path
    assert settings.server.names == ("gateway.example", *LOCAL_NAMES)
    assert (settings.server.port, settings.server.bind, settings.server.workers) == (6443, "0.0.0.0", 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["gateway.toml"]
    with pytest.raises(Conflict):
        write_initial(tmp_path, port=1)
    assert Settings.for_data(tmp_path, {}) == settings


def test_initial_file_without_flags_is_all_defaults(tmp_path: Path) -> None:
    write_initial(tmp_path)
    assert structs.replace(Settings.for_data(tmp_path, {}), file=None) == structs.replace(
        Settings.for_data(tmp_path, {}), file=None, server=type(Settings().server)()
    )


@pytest.mark.parametrize("given", [{"names": ("a:1",)}, {"port": 0}, {"bind": "here"}, {"workers": -1}])
def test_wrong_flag_writes_nothing(tmp_path: Path, given: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        write_initial(tmp_path, **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_flags_change_one_run_only(tmp_path: Path) -> None:
    settings = load(tmp_path, "[server]\nport = 1\nexternal_port = 443\nworkers = 3\n")
    changed = settings.but(names=("x.example",), port=2)
    assert (changed.server.port, changed.server.public_port, changed.server.workers) == (2, 2, 3)
    assert changed.server.names[0] == "x.example"
    assert changed.data == settings.data
    assert settings.but() == settings


def test_workers_follow_the_cores_unless_said() -> None:
    assert 1 <= Settings().server.processes <= 4
    assert Settings().but(workers=9).server.processes == 9


KEYS = st.sampled_from(["a", "b_c", "port"])
VALUES = st.sampled_from(["1", '"x # y"', "'''\n[server]\nport = 1\n'''", "[\n1,\n# port = 2\n2,\n]", "{ x = 1 }"])


@given(st.lists(st.tuples(KEYS, VALUES, st.sampled_from(["", "\n", "# port = 5\n\n"])), unique_by=lambda row: row[0]))
def test_line_of_a_key_is_where_its_statement_begins(rows: list[tuple[str, str, str]]) -> None:
    text = "[first]\nx = 1\n[server]\n"
    lines = {}
    for key, value, before in rows:
        text += before
        lines[key] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    assert {key: line_of(text, ("server", key)) for key in lines} == lines
    assert line_of(text, ("server", "none")) == 0


def test_unreadable_settings_are_a_refusal_not_a_fault(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "gateway.toml")
    with pytest.raises(Invalid, match="is a directory"):
        Settings.load(tmp_path / "gateway.toml", {})
