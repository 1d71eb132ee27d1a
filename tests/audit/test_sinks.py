"""Sinks: what is delivered is there whole and in order; what cannot be is refused in words, and can be sent again."""

from __future__ import annotations

import os
import ssl
import threading
import time
from pathlib import Path

import pytest

from gateway.audit.sinks.file import FileSink
from gateway.audit.sinks.port import Shipment, Sink, SinkFailed
from gateway.audit.sinks.syslog import SyslogSink
from gateway.audit.sinks.webhook import WebhookSink, signature
from gateway.errors import Invalid
from tests.services.authority import Authority
from tests.services.daemon import free_port
from tests.services.receivers import a_hook, a_slow_peer, a_syslog

EVENT = '{"hash":"00","id":7,"kind":"blob.pull","outcome":"denied","time":"2026-11-24T12:00:00.000000Z"}'
CHECKPOINT = '{"hash":"00","seq":7,"time":"2026-11-24T12:00:01.000000Z","type":"checkpoint"}'


def shipment(*lines: str) -> Shipment:
    return Shipment(lines, 7, 7, (3, 4))


# the file


def test_a_file_holds_what_was_delivered_line_by_line_and_is_not_for_everybody(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "audit.jsonl", 10**6)

    sink.deliver(shipment("one", "two"))
    sink.deliver(shipment("three"))

    assert (tmp_path / "audit.jsonl").read_text() == "one\ntwo\nthree\n"
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o007 == 0


def test_a_torn_line_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("one\n" + "t" * 100_000)

    FileSink(path, 10**6).deliver(shipment("two"))

    assert path.read_text() == "one\ntwo\n"


def test_a_file_is_rotated_before_it_grows_too_large_and_only_so_many_stay(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "audit.jsonl", 100, keep=2)

    for number in range(10):
        sink.deliver(shipment(f"{number}" * 60))

    rotated = sorted(tmp_path.glob("audit.jsonl.*"))
    assert [path.read_text()[0] for path in rotated] == ["7", "8"]
    assert (tmp_path / "audit.jsonl").read_text()[0] == "9"


def test_what_is_rotated_after_the_clock_went_back_is_the_newest_all_the_same(tmp_path: Path) -> None:
    for year, text in ((2998, "a"), (2999, "b")):
        (tmp_path / f"audit.jsonl.{year}0101T000000.000000Z").write_text(text)
    (tmp_path / "audit.jsonl.1T-mine-Z").write_text("of somebody else")
    sink = FileSink(tmp_path / "audit.jsonl", 100, keep=2)

    for number in range(3):
        sink.deliver(shipment(f"{number}" * 60))

    rotated = sorted(tmp_path.glob("audit.jsonl.2*"))
    assert [path.read_text()[0] for path in rotated] == ["0", "1"]
    assert (tmp_path / "audit.jsonl.1T-mine-Z").exists()


def test_a_file_that_somebody_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path, 10**6)
    sink.deliver(shipment("one"))
    path.rename(tmp_path / "moved")

    sink.deliver(shipment("two"))

    assert ((tmp_path / "moved").read_text(), path.read_text()) == ("one\n", "two\n")


def test_a_file_that_cannot_be_written_is_refused_and_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SinkFailed, match="no such file"):
        FileSink(tmp_path / "missing/audit.jsonl", 10**6).deliver(shipment("one"))
    sink = FileSink(tmp_path / "audit.jsonl", 10**6)
    sink.deliver(shipment("one"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(SinkFailed, match="no space left"):
            sink.deliver(shipment("two"))
    assert (tmp_path / "audit.jsonl").read_text() == "one\n"
    sink.deliver(shipment("two"))
    assert (tmp_path / "audit.jsonl").read_text() == "one\ntwo\n"


# the webhook


def hooked(url: str, secret: str = "0123456789abcdef") -> WebhookSink:
    return WebhookSink("there", url, lambda: secret, clock=lambda: 1_790_000_000.5)


def test_a_webhook_gets_signed_lines() -> None:
    with a_hook() as hook:
        sink = hooked(hook.url)
        sink.deliver(shipment(EVENT, CHECKPOINT))
        sink.close()

    (post,) = hook.got
    assert post.body.decode() == f"{EVENT}\n{CHECKPOINT}\n"
    assert post.headers["x-gateway-timestamp"] == "1790000000"
    expected = signature("0123456789abcdef", "1790000000", post.body)
    assert post.headers["x-gateway-signature"] == f"v1={expected}"
    assert (post.headers["x-gateway-sink"], post.headers["x-gateway-events"]) == ("there", "7-7")
    assert post.headers["x-gateway-checkpoints"] == "3-4"


def test_a_webhook_is_told_of_events_and_checkpoints_only_where_there_are_any() -> None:
    with a_hook() as hook:
        sink = hooked(hook.url)
        for each in (Shipment([EVENT], 7, 7), Shipment([CHECKPOINT], statements=(3, 3)), Shipment(['{"type":"gap"}'])):
            sink.deliver(each)
        sink.close()

    told = [(post.headers.get("x-gateway-events"), post.headers.get("x-gateway-checkpoints")) for post in hook.got]
    assert told == [("7-7", None), (None, "3-3"), (None, None)]


@pytest.mark.parametrize("status", [301, 400, 401, 410, 429, 500, 503])
def test_every_answer_but_a_receipt_is_a_refusal(status: int) -> None:
    with a_hook([status]) as hook:
        sink = hooked(hook.url)
        with pytest.raises(SinkFailed, match=str(status)):
            sink.deliver(shipment(EVENT))
        sink.deliver(shipment(EVENT))
        sink.close()

    assert [post.status for post in hook.got] == [status, 200]


def test_a_webhook_that_asks_for_rest_gets_it() -> None:
    with a_hook([503], {"Retry-After": "120"}) as hook:
        sink = hooked(hook.url)
        with pytest.raises(SinkFailed) as failed:
            sink.deliver(shipment(EVENT))
        sink.close()

    assert failed.value.retry_after_seconds == 120


def test_a_webhook_that_is_not_there_is_a_refusal_without_secrets() -> None:
    with pytest.raises(SinkFailed, match="does not answer: connection refused") as failed:
        hooked(f"http://127.0.0.1:{free_port()}/token?key=hush").deliver(shipment(EVENT))
    assert "hush" not in str(failed.value)


#: More than the systems at both ends keep of what nobody reads.
LONG = "x" * 8_000_000
DRIPPED = {
    "head": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000,
    "answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "body": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000,
    "nothing, and reads likewise": b"",
}


@pytest.mark.parametrize("what", DRIPPED)
def test_a_webhook_that_drips_has_failed_in_time(what: str) -> None:
    with a_slow_peer(DRIPPED[what]) as port:
        sink = WebhookSink("there", f"http://127.0.0.1:{port}/", lambda: "s" * 16, whole_seconds=0.2)
        begun = time.monotonic()
        with pytest.raises(SinkFailed, match="it takes too long"):
            sink.deliver(shipment(LONG))
        sink.close()
    assert time.monotonic() - begun < 2


def test_a_webhook_that_is_told_to_end_ends() -> None:
    with a_slow_peer(DRIPPED["head"]) as port:
        sink = WebhookSink("there", f"http://127.0.0.1:{port}/", lambda: "s" * 16)
        threading.Timer(0.2, sink.abort).start()
        with pytest.raises(SinkFailed):
            sink.deliver(shipment(EVENT))
        sink.close()


def test_a_secret_that_cannot_be_read_is_a_refusal_of_the_sink() -> None:
    def unreadable() -> str:
        raise Invalid("The secret cannot be read.")

    with pytest.raises(SinkFailed, match="secret cannot be read"):
        WebhookSink("there", "http://127.0.0.1:1/", unreadable).deliver(shipment(EVENT))


# syslog


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def syslogged(port: int, authority: Authority, host: str = "localhost") -> SyslogSink:
    return SyslogSink(host, port, name="gateway.test", authority=authority.certificate, timeout_seconds=5)


def test_syslog_gets_a_message_for_each_line(authority: Authority) -> None:
    pair = authority.issue("localhost")
    with a_syslog(pair.certificate, pair.key) as syslog:
        sink = syslogged(syslog.port, authority)
        sink.deliver(shipment(EVENT, CHECKPOINT))
        first, second = syslog.next(), syslog.next()
        sink.close()

    # Facility 13; a denied act is a warning (4), a checkpoint a notice (5).
    assert first == f"<108>1 2026-11-24T12:00:00.000000Z gateway.test gateway - blob.pull - {EVENT}"
    assert second == f"<109>1 2026-11-24T12:00:01.000000Z gateway.test gateway - checkpoint - {CHECKPOINT}"


def test_syslog_that_hung_up_is_noticed_and_called_again(authority: Authority) -> None:
    pair = authority.issue("localhost")
    with a_syslog(pair.certificate, pair.key) as syslog:
        sink = syslogged(syslog.port, authority)
        sink.deliver(shipment(EVENT))
        syslog.next()
        syslog.hang_up()

        delivered = False
        for _ in range(3):
            try:
                sink.deliver(shipment(CHECKPOINT))
            except SinkFailed:
                continue
            delivered = True
            break
        assert delivered
        assert "checkpoint" in syslog.next()
        sink.close()


@pytest.mark.parametrize("greets", [True, False], ids=["reads a byte at a time", "drips its greeting"])
def test_syslog_that_takes_its_time_has_failed_in_time(authority: Authority, greets: bool) -> None:
    pair = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    # A record of a handshake that says it is long: whoever waits for its end waits.
    with a_slow_peer(*((b"", context) if greets else (b"\x16\x03\x03\x40\x00" + b"\x02" * 1000, None))) as port:
        sink = SyslogSink("localhost", port, name="here", authority=authority.certificate, whole_seconds=0.2)
        begun = time.monotonic()
        with pytest.raises(SinkFailed, match="it takes too long"):
            sink.deliver(shipment(f'{{"detail":"{LONG}"}}'))
        sink.close()
    assert time.monotonic() - begun < 2


def test_a_certificate_for_another_name_or_of_another_authority_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue("elsewhere.test")
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    with a_syslog(pair.certificate, pair.key) as syslog:
        for trusted in (authority, stranger):
            with pytest.raises(SinkFailed, match="certificate that is not trusted"):
                syslogged(syslog.port, trusted).deliver(shipment(EVENT))


def test_syslog_that_is_not_there_is_a_refusal(authority: Authority) -> None:
    sink: Sink = syslogged(free_port(), authority)
    with pytest.raises(SinkFailed, match="connection refused"):
        sink.deliver(shipment(EVENT))
    sink.abort()
