"""Calls over HTTP: every way in which a receiver can misbehave, and what the log of deliveries says of it."""

import json
import socket
import ssl
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from delivery_helpers import Sink, answering, free_port, running_sink, seconds_of
from delivery_helpers import certificate as certificate
from delivery_helpers import sink as sink

from storemon_flask.delivery import http
from storemon_flask.delivery.answer import Answer
from storemon_flask.errors import Unprocessable

TOKEN = "/services/T0001/B0002/abcdefGHIJKL"


def test_a_call_that_is_answered_2xx_is_a_delivery(sink: Sink) -> None:
    assert http.call(sink.url + "/x?y=1", 10, b"{}") == Answer(True, "200 OK: thanks", 200)
    sink.behave = answering(204)
    assert http.call(sink.url, 10) == Answer(True, "204 No Content", 204)
    assert [(call.method, call.path, call.body) for call in sink.calls] == [
        ("POST", "/x?y=1", b"{}"),
        ("GET", "/", b""),
    ]
    assert sink.calls[0].headers["User-Agent"].startswith("storemon/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(sink: Sink, status: int) -> None:
    with running_sink() as other:
        sink.behave = answering(status, Location=other.url)
        answer = http.call(sink.url, 10, b"{}")
        assert (answer.delivered, answer.code) == (False, status)
        assert answer.text.endswith("redirects are not followed; give the address that this one leads to")
        assert other.calls == []


def test_refusals_say_when_to_come_again(sink: Sink) -> None:
    sink.behave = answering(500, b"<html>sorry</html>")
    assert http.call(sink.url, 10) == Answer(False, "500 Internal Server Error", 500)
    sink.behave = answering(429, b"slow down", Retry_After="90")
    assert http.call(sink.url, 10) == Answer(False, "429 Too Many Requests: slow down", 429, 90)
    sink.behave = answering(503, Retry_After=formatdate(time.time() + 120, usegmt=True))
    answer = http.call(sink.url, 10)
    assert answer.retry_after_s is not None
    assert 100 < answer.retry_after_s <= 120
    for odd, waits in (("soon", None), ("-5", None), ("99999999999", 21_600), (formatdate(0), 0), ("1e3", None)):
        sink.behave = answering(503, Retry_After=odd)
        assert http.call(sink.url, 10).retry_after_s == waits, odd
    sink.behave = answering(410, b"gone")
    assert http.call(sink.url, 10) == Answer(False, "410 Gone: gone", 410, None, gone=True)


@pytest.mark.parametrize("way", ["hang", "drip"])
def test_an_answer_that_does_not_come_is_cut_off(sink: Sink, way: str) -> None:
    sink.behave = getattr(sink, way)
    assert http.call(sink.url, 0.5, b"{}") == Answer(False, "no answer within 0.5 s")
    assert 0.4 < seconds_of(lambda: http.call(sink.url, 0.5)) < 5


def test_a_body_that_does_not_end_is_no_fault_of_the_delivery(sink: Sink) -> None:
    sink.behave = sink.drip_body
    answer = http.call(sink.url, 1.0, b"{}")
    assert (answer.delivered, answer.code) == (True, 200)
    assert answer.text.startswith("200 OK: yyy")


def test_no_more_than_64_kilobytes_are_read(sink: Sink) -> None:
    sink.behave = answering(200, b"z" * 10_000_000)
    answer = http.call(sink.url, 10)
    assert answer.text == "200 OK: " + "z" * 192


def test_failing_connections_are_reported(sink: Sink) -> None:
    sink.behave = sink.close
    assert not http.call(sink.url, 10).delivered
    sink.behave = sink.garbage
    assert http.call(sink.url, 10).text == "the answer is no HTTP (BadStatusLine)"
    assert http.call(f"http://127.0.0.1:{free_port()}", 10) == Answer(False, "Connection refused")
    assert not http.call("http://nowhere.invalid/", 10).delivered


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running_sink(context) as secure:
        answer = http.call(secure.url, 10, b"{}")
        assert (answer.delivered, answer.code) == (False, None)
        assert answer.text.startswith(
            "its certificate is not trusted (self-signed certificate); SSL_CERT_FILE can name"
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert http.call(secure.url, 10, b"{}") == Answer(True, "200 OK: thanks", 200)
        # It is that of another name.
        other = http.call(secure.url.replace("localhost", "127.0.0.1"), 10, b"{}")
        assert (other.delivered, "IP address mismatch" in other.text) == (False, True)
        assert len(secure.calls) == 1


def test_a_server_that_never_takes_the_connection_is_cut_off() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        assert http.call(url, 0.5) == Answer(False, "no answer within 0.5 s")
        for one in held:
            one.close()


def test_tokens_of_the_address_are_in_no_answer(sink: Sink) -> None:
    url = sink.url.replace("//", "//ann:pass%2Fword@") + TOKEN + "?key=q1w2e3r4t5"
    said = f"Cannot POST {TOKEN}?key=q1w2e3r4t5 for pass/word, nor abcdefGHIJKL"
    sink.behave = answering(404, said.encode())
    answer = http.call(url, 10)
    assert answer.text == "404 Not Found: Cannot POST ***?key=*** for ***, nor ***"
    assert sink.calls[0].headers["Authorization"] == "Basic YW5uOnBhc3Mvd29yZA=="
    assert http.shown_url(url) == sink.url + "/..."
    assert http.shown_url(sink.url) == sink.url


def test_a_receiver_that_repeats_what_it_was_sent_tells_no_password(sink: Sink) -> None:
    def echo(handler: BaseHTTPRequestHandler) -> None:
        answering(400, f"{handler.headers['Authorization']} {handler.path}".encode())(handler)

    sink.behave = echo
    answer = http.call(sink.url.replace("//", "//ann:p%40ss@") + "/in", 10, b"{}")
    assert sink.calls[0].headers["Authorization"] == "Basic YW5uOnBAc3M="
    assert answer.text == "400 Bad Request: Basic *** /in"


def test_answers_are_one_line_that_no_terminal_obeys(sink: Sink) -> None:
    sink.behave = answering(500, "a\r\nb\x1b[31m\u202e".encode())
    assert http.call(sink.url, 10).text == "500 Internal Server Error: a b\\x1b[31m\\u202e"


def test_the_proxy_of_the_system_is_used(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", sink.url)
    monkeypatch.setenv("https_proxy", sink.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert http.call("http://receiver.invalid/x", 10, b"{}").delivered
    sink.behave = answering(403)
    assert not http.call("https://receiver.invalid/x", 10, b"{}").delivered
    assert [(call.method, call.path) for call in sink.calls] == [
        ("POST", "http://receiver.invalid/x"),
        ("CONNECT", "receiver.invalid:443"),
    ]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert http.call(sink.url, 10).code == 403
    assert sink.calls[-1].path == "/"


def test_addresses_are_checked() -> None:
    assert http.check_url("https://u:p@example.com:8443/a?b=c") == "https://u:p@example.com:8443/a?b=c"
    for wrong in (
        "example.com",
        "ftp://example.com",
        "https://",
        "http://a:99999/",
        "http://a b/",
        "http://münchen.example/",
        "http://a\n/",
    ):
        with pytest.raises(Unprocessable) as bad:
            http.check_url(wrong)
        assert "https://example.com/hook" in bad.value.message or "browsers send it" in bad.value.message


def test_the_call_sends_the_given_body_and_headers(sink: Sink) -> None:
    body = json.dumps({"name": "Müller"}).encode()
    http.call(sink.url, 10, body, {"Content-Type": "application/json"})
    assert (sink.calls[0].body, sink.calls[0].headers["Content-Type"]) == (body, "application/json")
