"""What commands that read another registry say when it does not let them in, or is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.line import Line, Said
from tests.faults.peer import Line as Wire
from tests.faults.peer import Request, always, misbehaving
from tests.services.authority import Authority
from tests.services.daemon import free_port

CLOSED = always(401, {"WWW-Authenticate": 'Basic realm="registry"'})
PASSWORD_OPTIONS = {"import": "--password-stdin", "adopt": "--password-file"}


@pytest.fixture
def nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    """The command line on a data directory that does not exist yet."""
    return Line(tmp_path / "adopted", capsys)


def reading(line: Line, nowhere: Line, word: str, *words: str) -> Said:
    """An import into a gateway, or an adoption by a new one."""
    return (line if word == "import" else nowhere).program(word, *words, stdin=b"wrong\n")


def credential(word: str, folder: Path) -> tuple[str, ...]:
    secret = folder / "secret"
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    option = PASSWORD_OPTIONS[word]
    return ("--username", "mover", option, *((str(secret),) if word == "adopt" else ()))


def speaks_of_its_options(said: Said, url: str) -> bool:
    """Whether what is said names the registry, and neither settings nor a registry behind."""
    names = url in said.err and len(said.err.splitlines()) == 1
    return names and not any(wrong in said.err for wrong in ("behind", "password_file", "ca_file", "configuration"))


@pytest.mark.parametrize("words", [("import",), ("import", "--plan"), ("adopt",), ("adopt", "--plan")])
def test_a_missing_or_wrong_credential_is_told_by_the_commands_own_options(
    line: Line, nowhere: Line, tmp_path: Path, words: tuple[str, ...]
) -> None:
    word, *more = words
    with misbehaving(CLOSED) as peer:
        missing = reading(line, nowhere, word, peer.url, *more)
        wrong = reading(line, nowhere, word, peer.url, *more, *credential(word, tmp_path))
    for said, verb in ((missing, "give"), (wrong, "check")):
        assert said.status == 1, said
        assert f"{verb} --username and {PASSWORD_OPTIONS[word]}" in said.err
        assert speaks_of_its_options(said, peer.url), said
    assert not nowhere.folder.exists()


@pytest.mark.parametrize("words", [("import",), ("adopt",), ("adopt", "--plan")])
def test_a_certificate_of_a_private_authority_is_told_by_the_commands_own_option(
    line: Line, nowhere: Line, tmp_path: Path, words: tuple[str, ...]
) -> None:
    word, *more = words
    with misbehaving(always(200), pair=Authority(tmp_path).issue("127.0.0.1")) as peer:
        said = reading(line, nowhere, word, peer.url, *more)
    assert said.status == 1, said
    assert "give its CA with --ca-file" in said.err
    assert speaks_of_its_options(said, peer.url), said


def test_a_ca_file_that_is_missing_is_told_by_its_option(line: Line, tmp_path: Path) -> None:
    said = line("import", "https://127.0.0.1:1", "--ca-file", str(tmp_path / "missing.crt"))
    assert said.status == 1
    assert "check --ca-file" in said.err
    assert speaks_of_its_options(said, "https://127.0.0.1:1")


@pytest.mark.parametrize("words", [("import",), ("import", "--plan"), ("adopt",), ("adopt", "--plan")])
def test_a_registry_that_is_down_may_be_tried_again_with_a_plan_or_without(
    line: Line, nowhere: Line, words: tuple[str, ...]
) -> None:
    word, *more = words
    url = f"http://127.0.0.1:{free_port()}"
    said = reading(line, nowhere, word, url, *more)
    assert said.status == 5, said
    assert said.out == ""
    assert "takes no connection" in said.err
    assert speaks_of_its_options(said, url), said
    assert not nowhere.folder.exists()


def test_what_an_import_leaves_behind_is_told_of_the_registry_by_its_url(line: Line) -> None:
    def half_open(request: Request, wire: Wire) -> None:
        if request.path == "/v2/_catalog":
            wire.answer(200, body=b'{"repositories": ["gallery/api", "gallery/ui"]}')
        elif request.path == "/v2/gallery/ui/tags/list":
            wire.answer(200, body=b'{"tags": ["closed", "broken"]}')
        elif request.path.endswith("/broken"):
            wire.answer(400)
        else:
            wire.answer(403)

    with misbehaving(half_open) as peer:
        said = line("import", peer.url, "--json")
    assert said.status == 1
    reasons = {each["what"]: each["reason"] for each in said.json["broken"]}
    assert f"{peer.url} asks for a credential; give --username and --password-stdin." in reasons["closed"]
    assert f"{peer.url} gives an answer that no registry gives" in reasons["broken"]
    assert "behind" not in said.out


def test_what_the_settings_say_of_an_adopted_registry_is_to_be_mended_there(nowhere: Line) -> None:
    with misbehaving(always(200, body=b'{"repositories": []}')) as peer:
        nowhere("adopt", peer.url)
        assert nowhere.folder.exists()
        peer.behaviour = CLOSED
        said = nowhere("adopt", peer.url)
    assert said.status == 1
    assert "set username and password_file in the gateway's configuration" in said.out
