"""`storemon listen` without a broker: what it says at its start, and while it waits."""

import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from broker_helpers import Listening, free_ports
from conftest import ROOT, http, storemon, wait_until

from storemon_flask.streams import address, broker


def test_without_an_address_it_says_how_to_name_one(tmp_path: Path) -> None:
    done = storemon(tmp_path, "listen")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: there is no address to listen to; name one, as `storemon listen 'amqp://HOST/?queue=NAME'`, or set "
        "STOREMON_LISTEN\n"
    )


def test_a_wrong_address_ends_it(tmp_path: Path) -> None:
    done = storemon(tmp_path, "listen", "kafka://me:hidden@h/?topic=a")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the address to listen to begins with kafka://; it must be one of amqp://")
    assert "hidden" not in done.stderr
    assert not (tmp_path / "instance").exists()


@pytest.mark.parametrize(
    ("text", "module", "package", "extra"),
    [
        ("amqp://h/?queue=a", "kombu", "kombu", "storemon[streams]"),
        ("mqtt://h/?topic=a", "paho.mqtt.client", "paho-mqtt", "storemon[streams]"),
        ("redis://h/0?queue=a", "redis", "redis", "kombu[redis]"),
        ("sqs://?queue=a", "boto3", "boto3", "kombu[sqs]"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, text: str, module: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(broker.MissingExtra) as missing:
        broker.check_packages(address.parse_address(text))
    scheme = text.partition(":")[0]
    assert missing.value.message == (
        f"{scheme}:// needs {package}, which is not installed; install it with pip install '{extra}'"
    )
    monkeypatch.setattr(broker, "single_file", lambda: Path("storemon"))
    with pytest.raises(broker.MissingExtra, match="the single file cannot have it: install storemon with pip install"):
        broker.check_packages(address.parse_address(text))


def test_metrics_have_a_port_of_their_own(tmp_path: Path) -> None:
    port, nobody = free_ports(2)
    listening = Listening(tmp_path, f"mqtt://127.0.0.1:{nobody}/?topic=a", "--metrics-port", str(port))
    try:
        wait_until(lambda: "trying again in" in listening.logged(), "a try")
        text = http(f"http://127.0.0.1:{port}/metrics").body.decode()
        assert listening.end() == 0
    finally:
        listening.end(signal.SIGKILL)
    names = {line.split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    listed = re.findall(
        r"^\| `(storemon_stream_\w+)` \|", (ROOT / "docs" / "streams.md").read_text("utf-8"), re.MULTILINE
    )
    assert names == set(listed)
    assert "storemon_stream_connected 0.0" in text
    assert "storemon_stream_waiting_messages NaN" in text


def test_a_metrics_port_that_is_taken_ends_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = storemon(tmp_path, "listen", "mqtt://127.0.0.1/?topic=a", "--metrics-port", str(port))
    assert done.returncode == 1
    assert f"cannot serve metrics on 127.0.0.1 port {port}: Address already in use; choose another" in done.stderr


@pytest.mark.parametrize("text", ["amqp://me:hidden@127.0.0.1:{}/?queue=a", "mqtt://me:hidden@127.0.0.1:{}/?topic=a"])
def test_a_broker_that_is_not_there_is_waited_for_until_the_end(tmp_path: Path, text: str) -> None:
    (port,) = free_ports(1)
    listening = Listening(tmp_path, text.format(port))
    try:
        wait_until(lambda: listening.logged().count("trying again in") >= 2, "two tries")
        assert listening.end(signal.SIGINT) == 0
    finally:
        listening.end(signal.SIGKILL)
    log = listening.logged()
    assert "Connection refused; trying again" in log
    assert "stopped listening to" in log
    assert "hidden" not in log
    assert "Traceback" not in log
