"""`storemon listen` with a real RabbitMQ and a real Mosquitto, in small; test_listen_kills.py has the large."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import kombu
import pytest
from broker_helpers import (
    PATIENCE_S,
    AmqpPublisher,
    Listening,
    MqttPublisher,
    count_polls,
    running_mosquitto,
    running_rabbitmq,
)
from conftest import ROOT, Server, http, sql, storemon, wait_until

from storemon_flask.streams import mqtt_broker
from storemon_flask.streams.address import parse_address
from storemon_flask.streams.broker import BrokerLost, connect
from storemon_flask.streams.messages import Message

PAGE = (ROOT / "docs" / "streams.md").read_text("utf-8")


def minute(number: int) -> int:
    return 1_700_000_000 + 60 * number


def test_rabbitmq(tmp_path: Path) -> None:
    """From a queue that nobody has made yet, over one that is deleted, to an orderly end."""
    home = tmp_path / "home"
    (tmp_path / "rabbitmq").mkdir()
    with running_rabbitmq(tmp_path / "rabbitmq") as server:
        address = f"amqp://guest:guest@127.0.0.1:{server.port}/?queue=polls&seconds=0.2"
        listening = Listening(home, address)
        publisher = AmqpPublisher(server.port, "polls")
        try:
            wait_until(lambda: "listening to amqp" in listening.logged(), "the listener", PATIENCE_S)
            publisher.publish([f"a,{minute(number)},active".encode() for number in range(100)])
            publisher.publish([b"a,yesterday,active", b"\xff", b"[", b"{}"])
            wait_until(lambda: count_polls(home) == 100, "the polls")
            lines = "\n".join(
                f'{{"store_id": 7, "timestamp_utc": {minute(n)}, "status": "inactive"}}' for n in range(50)
            )
            publisher.publish([lines.encode()])
            wait_until(lambda: count_polls(home) == 150, "the polls of one message")
            _run_the_snippet_of_the_page(server.port)
            wait_until(lambda: count_polls(home) == 151, "the poll of the page")
            before = listening.logged().count("listening to amqp")
            _delete_the_queue(server.port)
            wait_until(lambda: listening.logged().count("listening to amqp") > before, "a new queue", PATIENCE_S)
            publisher.publish([f"d,{minute(0)},active".encode()])
            wait_until(lambda: count_polls(home) == 152, "the poll of the new queue")
            # The last batch may be acknowledged a moment after it can be seen.
            assert listening.end() == 0
            assert publisher.count_waiting() == 0
        finally:
            publisher.close()
            listening.end(signal.SIGKILL)
        assert "guest" not in listening.logged()
        _says_that_it_is_refused(server.port, tmp_path / "refused")
        _takes_a_queue_as_it_is(server.port, home)
    rejects = storemon(home, "rejects").stdout.splitlines()[1:]
    assert len(rejects) == 4
    assert all(f",amqp://127.0.0.1:{server.port} queue polls," in row for row in rejects)


def _run_the_snippet_of_the_page(port: int) -> None:
    (snippet,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    code = snippet.replace("amqp://user:password@broker/", f"amqp://guest:guest@127.0.0.1:{port}/")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)


def _delete_the_queue(port: int) -> None:
    with kombu.Connection(f"amqp://guest:guest@127.0.0.1:{port}/", connect_timeout=PATIENCE_S) as connection:
        connection.channel().queue_delete("polls")


def _says_that_it_is_refused(port: int, home: Path) -> None:
    listening = Listening(home, f"amqp://guest:hidden@127.0.0.1:{port}/?queue=polls")
    try:
        # A broker that is slow may be tried twice before it answers.
        wait_until(lambda: "ACCESS_REFUSED" in listening.logged(), "a refusal", PATIENCE_S)
        wait_until(lambda: "trying again" in listening.logged(), "the next try")
        assert listening.end() == 0
    finally:
        listening.end(signal.SIGKILL)
    assert "hidden" not in listening.logged()


def _takes_a_queue_as_it_is(port: int, home: Path) -> None:
    """Of a quorum queue that somebody has made."""
    base = f"amqp://guest:guest@127.0.0.1:{port}/"
    with kombu.Connection(base, connect_timeout=PATIENCE_S) as connection:
        arguments = {"x-queue-type": "quorum"}
        kombu.Queue("quorum", durable=True, queue_arguments=arguments)(connection.channel()).queue_declare()
        kombu.Producer(connection.channel()).publish(f"q,{minute(0)},active".encode(), routing_key="quorum")
    before = count_polls(home)
    listening = Listening(home, f"{base}?queue=quorum&exchange=amq.topic&routing_key=q.%23")
    try:
        wait_until(lambda: count_polls(home) == before + 1, "the poll of the other queue", PATIENCE_S)
        with kombu.Connection(base, connect_timeout=PATIENCE_S) as connection:
            producer = kombu.Producer(connection.channel(), kombu.Exchange("amq.topic", "topic"), auto_declare=False)
            producer.publish(f"q,{minute(1)},active".encode(), routing_key="q.polls")
        wait_until(lambda: count_polls(home) == before + 2, "the poll of the exchange")
        assert listening.end(signal.SIGINT) == 0
    finally:
        listening.end(signal.SIGKILL)


def test_mosquitto(tmp_path: Path) -> None:
    """What comes in while nobody listens is kept, also over a restart of the broker."""
    home = tmp_path / "home"
    (tmp_path / "mosquitto").mkdir()
    with running_mosquitto(tmp_path / "mosquitto") as server:
        address = f"mqtt://127.0.0.1:{server.port}/?topic=stores/{{store_id}}/polls&seconds=0.2"
        listening = Listening(home, address)
        try:
            wait_until(lambda: "listening to mqtt" in listening.logged(), "the listener", PATIENCE_S)
            # The one that the page has.
            (command,) = re.findall(r"    mosquitto_pub -h broker (.+)", PAGE)
            subprocess.run(
                f"mosquitto_pub -h 127.0.0.1 -p {server.port} {command}", shell=True, check=True, timeout=PATIENCE_S
            )
            wait_until(lambda: count_polls(home) == 1, "the poll of the page")
            assert listening.end() == 0
            publisher = MqttPublisher(server.port)
            # More than Mosquitto keeps, or sends before an acknowledgement, by itself.
            publisher.publish([(f"stores/{n % 7}/polls", f"{minute(n)},active".encode()) for n in range(1_500)])
            publisher.publish([("stores/1/polls", b"nonsense")])
            # It comes to who has subscribed, and not again at each connection.
            publisher.publish([("stores/kept/polls", f"{minute(0)},active".encode())], retain=True)
            publisher.close()
            server.restart()
            listening = Listening(home, address)
            wait_until(lambda: count_polls(home) == 1_502, "what was kept", PATIENCE_S)
            assert listening.end() == 0
        finally:
            listening.end(signal.SIGKILL)
        counts = sql(
            home / "instance" / "storemon.db",
            "SELECT sum(row_count), sum(new_count), sum(rejected_count) FROM load_file",
        )
        assert counts == [(1_503, 1_502, 1)]


def test_kept_messages_that_come_before_the_answer_to_a_subscription_may_take_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As thousands do on a slow machine: given up each time, they would come again for ever."""
    with running_mosquitto(tmp_path) as server:
        address = parse_address(f"mqtt://127.0.0.1:{server.port}/?topic=a&client_id=b")
        connect(address).close()
        publisher = MqttPublisher(server.port)
        publisher.publish([("a", f"s,{minute(n)},active".encode()) for n in range(300)])
        publisher.close()
        add = mqtt_broker.MqttBroker._add

        def add_slowly(self: mqtt_broker.MqttBroker, *arguments: Any) -> None:
            time.sleep(0.01)
            add(self, *arguments)

        monkeypatch.setattr(mqtt_broker.MqttBroker, "_add", add_slowly)
        monkeypatch.setattr(mqtt_broker, "CONNECT_TIMEOUT_S", 1)
        with closing(connect(address)) as broker:
            found: list[Message] = []
            wait_until(lambda: found.extend(broker.receive(0.1)) or len(found) == 300, "what was kept")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_trusts_only_whom_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "mosquitto").mkdir()
    certificate = tmp_path / "mosquitto" / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", certificate, "-out", tmp_path / "public.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.write_text(certificate.read_text() + (tmp_path / "public.pem").read_text())
    with running_mosquitto(tmp_path / "mosquitto") as server:
        server.end()
        server.certificate = certificate
        server.start()
        address = f"mqtts://localhost:{server.port}/?topic=a"
        strict = Listening(tmp_path / "strict", address)
        told = Listening(tmp_path / "told", f"{address}&ca_file={tmp_path / 'public.pem'}")
        try:
            wait_until(lambda: "certificate verify failed" in strict.logged(), "a refusal", PATIENCE_S)
            wait_until(lambda: "listening to mqtts" in told.logged(), "the listener", PATIENCE_S)
            assert "listening to mqtts" not in strict.logged().replace("stopped listening", "")
            assert (strict.end(), told.end()) == (0, 0)
        finally:
            strict.end(signal.SIGKILL)
            told.end(signal.SIGKILL)


def test_whoever_hangs_up_at_once_is_said_to_have_done_so() -> None:
    """The port of something else, in most cases."""
    with socket.create_server(("127.0.0.1", 0)) as line:

        def hang_up() -> None:
            caller, _ = line.accept()
            caller.recv(1)
            caller.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        port = line.getsockname()[1]
        with pytest.raises(BrokerLost) as lost:
            connect(parse_address(f"mqtt://me:hidden@127.0.0.1:{port}/?topic=a&client_id=b"))
        thread.join()
    assert lost.value.message == f"mqtt://127.0.0.1:{port} topic a: the connection was closed"


def test_a_server_listens_itself(tmp_path: Path) -> None:
    """STOREMON_LISTEN: in the same process, with the metrics among its own, before and after the broker is there."""
    (tmp_path / "mosquitto").mkdir()
    with running_mosquitto(tmp_path / "mosquitto") as broker:
        broker.end()
        address = f"mqtt://127.0.0.1:{broker.port}/?topic=s/{{store_id}}/{{status}}&active=ON&seconds=0.1"
        server = Server(tmp_path / "home", STOREMON_LISTEN=address)
        try:
            # By the first answer there may have been more than one.
            wait_until(lambda: _metric(server, "failures_total") >= 1, "a failure")
            broker.start()
            # Each try waits longer than the one before.
            wait_until(lambda: _metric(server, "connected") == 1, "the broker", PATIENCE_S)
            publisher = MqttPublisher(broker.port)
            publisher.publish([(f"s/{n}/on", str(minute(n)).encode()) for n in range(9)])
            publisher.close()
            wait_until(lambda: count_polls(server.home) == 9, "the polls")
            # They are counted after they are acknowledged, and that is after they are stored.
            wait_until(lambda: _metric(server, "messages_total") == 9, "the count of messages")
            assert http(f"{server.url}/api/v1/stores/3").json["status"] != "no_data"
            assert server.end() == 0
        finally:
            server.end(signal.SIGKILL)
    log = server.log.read_text()
    assert "trying again in" in log
    assert "Traceback" not in log


def _metric(server: Server, name: str) -> float:
    """What a server says of the stream it listens to."""
    (found,) = re.findall(rf"^storemon_stream_{name} (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    return float(found)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("mqtt://h/?queue=a", "the options are topic,"),
        (
            "mqtts://h/?topic=a&ca_file=/no/such",
            "the ca_file of the address to listen to, /no/such, cannot be read: No",
        ),
        ("amqp://h/", "the address to listen to names no queue; write amqp://HOST/?queue=NAME"),
        ("http://me:hidden@h/", "Error: STOREMON_LISTEN has 19 characters that are not shown; it must be none, or an"),
    ],
)
def test_a_server_does_not_start_with_a_wrong_address(tmp_path: Path, address: str, sentence: str) -> None:
    done = storemon(tmp_path, "serve", "--port", "0", STOREMON_LISTEN=address)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "hidden" not in done.stderr
