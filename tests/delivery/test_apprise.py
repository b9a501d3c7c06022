"""Everything else, through apprise: real calls of it, in a process of its own."""

import json
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import delivery_helpers
import pytest
from conftest import ROOT
from delivery_helpers import Sink, add_channel, answering, seconds_of
from delivery_helpers import prepared as prepared
from delivery_helpers import sink as sink

from storemon_flask.database.channels import Channel
from storemon_flask.database.connections import Database
from storemon_flask.delivery import apprise, transports
from storemon_flask.delivery.answer import Answer
from storemon_flask.errors import Unprocessable
from storemon_flask.settings import Settings

# Seven hundred modules are imported first; on a busy machine that takes long.
PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise, "_CHECK_S", PATIENCE_S)


def send(
    settings: Settings, database: Database, channel: Channel, seconds: float = PATIENCE_S, **members: str
) -> Answer:
    return delivery_helpers.send(settings, database, channel, seconds, **members)


def address(sink: Sink) -> str:
    return sink.url.replace("http", "json") + "/tokentokentoken"


def test_a_title_and_a_text_arrive(prepared: Database, settings: Settings, sink: Sink) -> None:
    channel = add_channel(prepared, "apprise", address(sink))
    assert send(settings, prepared, channel, subject="storemon: @everyone", text="a\nb <x>\n") == Answer(True, "sent")
    (call,) = sink.calls
    said = json.loads(call.body)
    # Nothing in a name of a store calls everybody.
    assert (said["title"], said["message"]) == ("storemon: ＠everyone", "a\nb ‹x›")
    assert call.path == "/tokentokentoken"
    assert transports.shown_address(channel) == "json://..."


def test_reasons_are_reported_without_the_address(prepared: Database, settings: Settings, sink: Sink) -> None:
    channel = add_channel(prepared, "apprise", address(sink))
    sink.behave = answering(403, b"no /tokentokentoken")
    answer = send(settings, prepared, channel)
    assert not answer.delivered
    assert "403" in answer.text
    assert "tokentoken" not in answer.text
    sink.behave = sink.close
    assert "Connection" in send(settings, prepared, channel).text


@pytest.mark.parametrize("way", ["hang", "drip", "drip_body"])
def test_it_is_ended_at_the_deadline(prepared: Database, settings: Settings, sink: Sink, way: str) -> None:
    channel = add_channel(prepared, "apprise", address(sink))
    sink.behave = getattr(sink, way)
    answers: list[Answer] = []
    assert seconds_of(lambda: answers.append(send(settings, prepared, channel, seconds=3))) < 10
    assert answers == [Answer(False, "no answer within 3 s")]


@pytest.mark.slow
def test_an_answer_of_a_gigabyte_ends_that_process_only(prepared: Database, settings: Settings, sink: Sink) -> None:
    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n")
        for _ in range(1500):
            handler.wfile.write(b"z" * (1 << 20))

    sink.behave = pour
    answer = send(settings, prepared, add_channel(prepared, "apprise", address(sink)))
    assert answer == Answer(False, "Notification service 'JSON' raised an exception.")


def test_addresses_are_checked_by_apprise(settings: Settings) -> None:
    assert transports.check_channel("apprise", "ntfy://ntfy.sh/my-topic", settings) == "ntfy://ntfy.sh/my-topic"
    for wrong in ("ntfy", "nosuch://example.com/secretsecret", "slack://secretsecret", "ntfy://[", "json://[::1"):
        with pytest.raises(Unprocessable) as bad:
            transports.check_channel("apprise", wrong, settings)
        assert "ntfy://ntfy.sh/my-topic" in bad.value.message
        assert "secretsecret" not in bad.value.message


def test_without_it_the_extra_is_named(
    prepared: Database, settings: Settings, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apprise.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sentence = (
        "apprise, which sends to other services, is not installed; install it with pip install 'storemon[notify]'"
    )
    assert send(settings, prepared, add_channel(prepared, "apprise", address(sink))) == Answer(False, sentence)
    with pytest.raises(Unprocessable) as bad:
        transports.check_channel("apprise", "ntfy://ntfy.sh/my-topic", settings)
    assert bad.value.message == sentence


def test_a_process_that_dies_is_reported(
    prepared: Database, settings: Settings, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apprise.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    channel = add_channel(prepared, "apprise", address(sink))
    assert send(settings, prepared, channel) == Answer(False, "apprise ended without an answer (exit code 3)")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert send(settings, prepared, channel).text == "apprise cannot be started: No such file or directory"


def test_the_process_needs_nothing_of_storemon() -> None:
    source = (ROOT / "storemon_flask" / "delivery" / "apprise_process.py").read_text()
    assert "storemon_flask" not in source
    assert str(list(apprise.apprise_process.ARGUMENTS)).replace("'", '"') in (ROOT / "binary" / "entry.py").read_text()
