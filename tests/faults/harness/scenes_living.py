"""Scenes under load: another certificate, another key, a stop, and a clock that jumps."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.harness.figures import Figures
from tests.faults.harness.load import injected, loaded
from tests.faults.harness.operations import HERE, push_image
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.site import Client, Site, running_site
from tests.services.authority import Authority
from tests.services.daemon import free_port

_DAY_SECONDS = 86_400.0
_SETTINGS = """\
[server]
names = ["registry.local"]
port = {port}
workers = 1
certificate = "{folder}/served.crt"
key = "{folder}/served.key"

[engine]
root = "data"
"""


def certificates(figures: Figures, folder: Path, changes: int = 4) -> None:
    """The certificate is replaced while clients push, well and badly: nobody is cut off, and a bad one is refused."""
    fault = "certificate changed under load"
    authority, port = Authority(folder), free_port()
    _serve(folder, authority)
    with (
        running_site(settings=_SETTINGS.format(port=port, folder=folder), ca=authority.certificate, port=port) as site,
        loaded(site, figures, fault) as load,
    ):
        load.until(2)
        for number in range(changes):
            shown = _shown(site)
            if number % 2:
                # Half a key: what is served stays.
                key = folder / "served.key"
                whole = key.read_bytes()
                key.write_bytes(whole[: len(whole) // 2])
                injected(figures, fault)
                load.until(2)
                _wait_for_event(site, figures, fault, "certificate.rejected", (number + 1) // 2)
                if _shown(site) != shown:
                    figures.problem(fault, "half a key changed what is served")
                key.write_bytes(whole)
            else:
                _serve(folder, authority)
                injected(figures, fault)
                _wait_for_event(site, figures, fault, "certificate.accepted", number // 2 + 1)
                if _shown(site) == shown:
                    figures.problem(fault, "the new certificate is not served")
            load.until(2)
        load.stop()
        if load.unanswered:
            figures.problem(fault, f"{load.unanswered} requests were not answered")
        Oracle(site, figures, fault).conclude()


def _serve(folder: Path, authority: Authority) -> None:
    pair = authority.issue("registry.local", "127.0.0.1")
    pair.key.replace(folder / "served.key")
    pair.certificate.replace(folder / "served.crt")


def _shown(site: Site) -> bytes:
    with site.gateway.wire.connect() as connection:
        return connection.certificate()


def _wait_for_event(site: Site, figures: Figures, fault: str, kind: str, count: int) -> None:
    deadline = time.monotonic() + 15
    while len(site.gateway.events(kind=kind)) < count:
        if time.monotonic() > deadline:
            figures.problem(fault, f"there is no {kind}")
            return
        time.sleep(0.3)


def keys(figures: Figures, rotations: int = 10) -> None:
    """The signing key is rotated again and again while clients push: every token that was given goes on being good."""
    fault = "key rotation under load"
    with running_site() as site, loaded(site, figures, fault) as load:
        load.until(2)
        for _ in range(rotations):
            site.command("key", "rotate").must()
            injected(figures, fault)
            # One who signs in just now.
            Client(site.gateway, site.who).ask("GET", "/v2/", 200)
            load.until(1)
        load.stop()
        if load.unanswered:
            figures.problem(fault, f"{load.unanswered} requests were not answered")
        Oracle(site, figures, fault).conclude()


def stops(figures: Figures, times: int = 5) -> None:
    """SIGTERM while clients push: what is in hand ends, the status is 0, and the next start goes on."""
    fault = "SIGTERM under load"
    with running_site() as site, loaded(site, figures, fault) as load:
        for _ in range(times):
            load.until(3)
            site.gateway.terminate()
            injected(figures, fault)
            status = site.gateway.ended()
            if status != 0:
                figures.problem(fault, f"it ended with {status}")
            figures.recovered(fault, site.up())
        load.until(3)
        load.stop()
        Oracle(site, figures, fault).conclude()


def kills_under_load(figures: Figures, times: int = 10) -> None:
    """kill -9 while clients push, whatever is going on just then."""
    fault = "kill -9 under load"
    with running_site() as site, loaded(site, figures, fault) as load:
        for number in range(times):
            load.until(1 + number % 3)
            site.gateway.kill()
            injected(figures, fault)
            figures.recovered(fault, site.up())
        load.until(3)
        load.stop()
        Oracle(site, figures, fault).conclude()


def clocks(figures: Figures) -> None:
    """
    The clock jumps a day ahead, back, and behind: nothing is lost, and no old token is good again that was not.

    A token from before a jump ahead has expired; one from the future is refused while the clock is behind.
    """
    fault = "clock jumps"
    with running_site(clock=True) as site:
        number = 0
        for offset in (_DAY_SECONDS, 0.0, -_DAY_SECONDS, 0.0, 400 * _DAY_SECONDS, 0.0):
            before = site.client.token
            site.server.arm(offset_seconds=offset)
            site.commands.arm(offset_seconds=offset)
            injected(figures, fault)
            _refused(site, figures, fault, before)
            site.client.forget_token()
            figures.recovered(fault, site.answers())
            for _ in range(3):
                number += 1
                push_image(site, number, "now")
            swept = site.command("sweep")
            # With a clock that went back it may refuse to judge what is old; it never removes what is young.
            if swept.code not in (0, 1, 4, 5):
                figures.problem(fault, f"sweep: {swept.output[-300:]}")
        Oracle(site, figures, fault).conclude()


def _refused(site: Site, figures: Figures, fault: str, token: str) -> None:
    for path in ("tags/list", "manifests/now"):
        with site.gateway.wire.connect() as connection:
            status = connection.request("GET", f"/v2/{HERE}/{path}", token=token).status
        if status != 401:
            figures.problem(fault, f"a token from before the jump is answered with {status}: {path}")
