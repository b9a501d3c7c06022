"""`storemon listen` without a broker: what it says at its start, and while it waits."""

import signal
import sys
from pathlib import Path

import pytest
from broker_helpers import Listening, free_ports
from conftest import storemon, wait_until

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
    ("text", "module", "package"),
    [("amqp://h/?queue=a", "kombu", "kombu"), ("mqtt://h/?topic=a", "paho.mqtt.client", "paho-mqtt")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, text: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(broker.MissingExtra) as missing:
        broker.check_packages(address.parse(text))
    scheme = text.partition(":")[0]
    assert missing.value.message == (
        f"{scheme}:// needs {package}, which is not installed; install it with pip install 'storemon[streams]'"
    )
    monkeypatch.setattr(broker, "single_file", lambda: Path("storemon"))
    with pytest.raises(broker.MissingExtra, match=r"the single file cannot have it: install storemon with pip install"):
        broker.check_packages(address.parse(text))


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
