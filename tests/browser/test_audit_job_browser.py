"""An auditor's whole job in a browser: from a push that was refused to a pack that another machine verifies."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from gateway.audit import offline
from tests.browser.conftest import PASSWORD
from tests.browser.looking import Looker, looking
from tests.console.hostile import CORPUS
from tests.services.clients import Skopeo
from tests.services.gateway import Gateway
from tests.services.images import Layout
from tests.services.machine import trusted


@pytest.fixture(scope="module")
def happened(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A robot pushes and pulls, joe is refused, all by skopeo; the digest that the robot pushed."""
    home = tmp_path_factory.mktemp("client")
    for name, role in (("ann", "--auditor"), ("joe", ""), ("jane", "")):
        gateway.add_user(name, PASSWORD, *([role] if role else []))
    gateway.cli("project", "add", "gallery").must()
    gateway.cli("grant", "joe", "puller", "gallery").must()
    gateway.cli("grant", "jane", "owner", "gallery").must()
    secret = gateway.cli("robot", "add", "gallery/ci", "pusher", "--json").must().json()["secret"]
    layout = Layout.create(home / "layout")
    image = layout.add_image("v1", [2000], seed=77)
    client, reference = Skopeo(home), f"{gateway.registry}/gallery/ui:v1"
    with trusted(gateway.registry, gateway.certificate):
        client.push(layout.source("v1"), reference, f"--dest-creds=gallery+ci:{secret}").must()
        client.pull(reference, f"dir:{home / 'pulled'}", f"--src-creds=gallery+ci:{secret}").must()
        refused = client.push(layout.source("v1"), reference + "-joe", f"--dest-creds=joe:{PASSWORD}")
    assert not refused.ok
    return image.manifest.digest


def sign_in(window: Looker, name: str) -> None:
    window.open("/console/")
    window.fill(name=name, password=PASSWORD)
    window.press("Sign in")


def test_an_auditors_whole_job(gateway: Gateway, chromium: Browser, happened: str, tmp_path: Path) -> None:
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window, "ann")
        _finds_and_follows(window)
        window.press("Audit")
        _sees_what_the_robot_touched(window, happened)
        _reviews_the_month(window)
        # What a gateway does every minute: a checkpoint that names the sign-off too.
        gateway.cli("audit", "checkpoint").must()
        key = _downloaded_key(window, tmp_path / "key.pem")
        window.open("/console/reviews/1")
        pack = _kept(window, "Evidence pack", tmp_path / "review.zip")
        window.open("/console/audit")
        export = _kept(window, "Export", tmp_path / "audit.jsonl")
        _kept(window, "Export as CSV", tmp_path / "audit.csv")
    elsewhere = tmp_path / "elsewhere"
    with zipfile.ZipFile(pack) as packed:
        packed.extractall(elsewhere)
    verifier = elsewhere / "offline.py"
    verifier.write_bytes(Path(offline.__file__).read_bytes())
    for argv in ([elsewhere / "verify.py"], [verifier, export]):
        done = subprocess.run(
            [sys.executable, "-I", *map(str, argv)], cwd=elsewhere, env={}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    _verified_on_another_machine(pack, key, tmp_path / "machine")
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text(export.read_text().replace('"joe"', '"eve"'))
    again = subprocess.run([sys.executable, "-I", str(verifier), str(damaged)], env={}, capture_output=True, text=True)
    assert again.returncode == 1


@pytest.mark.long
def test_the_one_who_manages_a_robot_revokes_it_in_the_browser(
    gateway: Gateway, chromium: Browser, happened: str
) -> None:
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window, "jane")
        window.open("/console/audit/leak?credential=gallery/ci&since=1d")
        window.look("leak-to-revoke")
        window.fill(typed="gallery/ci")
        window.press("Revoke it")
        assert window.says("was revoked")
        assert window.page.get_by_title(happened).count() >= 1
        window.open("/console/reviews")
        window.look("reviews-of-an-owner")
        window.press("gallery")
        assert window.says("There are no reviews yet.")


def test_who_pulled_a_digest_is_three_clicks_from_signing_in(
    gateway: Gateway, chromium: Browser, happened: str
) -> None:
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window, "ann")
        clicks = 0
        for words in ("Audit", "Who pulled this?"):
            window.press(words)
            clicks += 1
        window.fill(target=happened)
        window.press("Find out")
        clicks += 1
        assert window.page.get_by_role("rowheader", name="gallery+ci").is_visible()
        assert clicks <= 3
        window.look("who-pulled")


@pytest.mark.long
def test_nothing_that_clients_wrote_runs_before_an_auditor(gateway: Gateway, chromium: Browser, happened: str) -> None:
    some = [text for text in CORPUS if text.isascii()][:3]
    for text in some:
        told = {"Authorization": "Basic cm9vdDp3cm9uZw==", "User-Agent": text}
        assert gateway.wire.ask("GET", "/token?service=x", headers=told).status >= 400
    with looking(chromium, f"https://{gateway.registry}") as window:
        sign_in(window, "ann")
        for text in some:
            window.open("/console/audit")
            window.fill(repository=text, principal=text)
            window.press("Search")
            assert window.page.locator("#repository").input_value() == text
            assert window.page.evaluate("top.hit === undefined"), text
        for event in gateway.events(outcome="denied")[-6:]:
            window.open(f"/console/audit/events/{event['id']}")
            assert window.page.evaluate("top.hit === undefined"), event


def _finds_and_follows(window: Looker) -> None:
    window.press("Audit")
    window.look("audit")
    window.fill(outcome="denied", kind="manifest.push", project="gallery")
    window.press("Search")
    if window.page.locator("tbody tr").count() == 0:
        window.fill(kind="")
        window.press("Search")
    assert window.says("joe")
    window.picture("auditor-refused")
    window.page.locator("tbody tr th a").first.click()
    assert window.says("as they were sealed")
    window.look("event")
    window.picture("auditor-event")
    window.press("All that it did")
    assert "principal=joe" in window.page.url
    window.look("audit-of-one")
    window.press("Audit")
    window.press("Verify")
    window.press("Verify")
    assert window.says("The trail is whole")
    window.look("verified")


def _sees_what_the_robot_touched(window: Looker, digest: str) -> None:
    window.press("A credential leaked")
    window.look("leak-form")
    window.fill(credential="gallery/ci", since="1d")
    window.press("Show what it touched")
    assert window.page.get_by_title(digest).count() >= 2
    assert window.page.get_by_role("button", name="Revoke it").count() == 0
    window.look("leak")
    window.picture("auditor-leak")
    window.page.get_by_title(digest).first.click()
    assert window.says("gallery+ci")
    window.picture("auditor-who-pulled")


def _reviews_the_month(window: Looker) -> None:
    window.press("Reviews")
    window.look("reviews")
    window.press("Begin")
    page = window.page
    window.look("review")
    window.picture("auditor-review")
    numbers = [str(each.get_attribute("id")).removeprefix("note-") for each in page.locator("[id^=note-]").all()]
    numbers = [number for number in numbers if number.isdecimal()]
    assert numbers
    for number in numbers:
        finding = page.locator(f"#finding-{number}")
        first = number == numbers[0]
        finding.locator("input[id^=note-]").fill(f"ask about it {CORPUS[0]}" if first else "as agreed")
        finding.get_by_role("button", name="Follow up" if first else "Fine").click()
        page.wait_for_load_state()
        assert window.says("Saved.")
    window.fill(note="the month, looked through")
    window.press("Sign off")
    assert window.says("The review was signed off.")
    window.look("review-signed")
    window.picture("auditor-signed")


def _downloaded_key(window: Looker, place: Path) -> Path:
    window.press("Audit")
    window.press("Evidence")
    return _kept(window, "Download the public key", place)


def _verified_on_another_machine(pack: Path, key: Path, machine: Path) -> None:
    """In an empty folder that holds nothing but the pack and the key, by the command that the pack's README tells."""
    machine.mkdir()
    with zipfile.ZipFile(pack) as packed:
        packed.extractall(machine)
    (machine / "key.pem").write_bytes(key.read_bytes())
    readme = (machine / "README.txt").read_text().splitlines()
    (command,) = [line.split() for line in readme if line.startswith("    python3 offline.py ")]

    def verified() -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-I", "-S", *command[1:]]
        return subprocess.run(argv, cwd=machine, env={}, capture_output=True, text=True)

    done = verified()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Proven by 1 signed statement: " in done.stdout
    events = machine / "events.jsonl"
    sealed = events.read_text()
    named = json.loads((machine / "checkpoint.json").read_text())["seq"]
    assert any(line.startswith(f'{{"seq": {named},') for line in sealed.splitlines())
    # Whoever changes an event and seals all that follow anew has hashes that fit, and no key to sign them.
    events.write_text(_sealed_anew(sealed, '"joe"', '"eve"'))
    forged = verified()
    assert (forged.returncode, "is not the one that the checkpoint" in forged.stdout) == (1, True), forged
    events.write_text(sealed.replace('\\"joe\\"', '\\"eve\\"'))
    assert "was edited" in verified().stdout


def _sealed_anew(lines: str, old: str, new: str) -> str:
    """The events with *new* for *old*, each hash computed again from the one before it."""
    previous, written = "", []
    for line in lines.splitlines():
        event = json.loads(line)
        record = json.loads(event["body"].replace(old, new))
        record["previous_hash"] = previous or record["previous_hash"]
        body = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(bytes.fromhex(record["previous_hash"]) + body.encode()).hexdigest()
        written.append(json.dumps({"seq": event["seq"], "hash": previous, "body": body}))
    return "\n".join(written) + "\n"


def _kept(window: Looker, words: str, place: Path) -> Path:
    with window.page.expect_download() as download:
        window.page.get_by_role("link", name=words, exact=True).click()
    download.value.save_as(place)
    return place
