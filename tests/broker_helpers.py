"""Real brokers for tests, each in a folder and at ports of its own, who publishes, and who listens; tests skip where a
broker is not installed.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import amqp
import kombu
import paho.mqtt.client as mqtt
import pytest
from conftest import STOREMON, environment, sql

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# A shared machine may be slow, and Erlang takes seconds to start.
PATIENCE_S = 120.0
# Not that of a test, which may begin with the same number in two processes.
_CHANCE = random.SystemRandom()


def mosquitto_program() -> str:
    """The path of Mosquitto; skips where there is none."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    return found


def rabbitmq_program() -> Path:
    """The path of RabbitMQ; skips where there is none."""
    if not RABBITMQ.exists():
        pytest.skip("rabbitmq-server is not installed (apt-get install rabbitmq-server)")
    return RABBITMQ


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and that no system gives to whoever asks for any before they are used."""
    found: set[int] = set()
    while len(found) < count:
        port = _CHANCE.randrange(12_000, 30_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


class BrokerServer:
    """A broker that can be ended and started again with what it kept."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def start(self) -> None:
        command, variables = self.command()
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE_S
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "broker.log").read_text()
            assert time.monotonic() < end, (self.folder / "broker.log").read_text()
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def end(self, signum: int = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signum)
            try:
                process.wait(PATIENCE_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def restart(self, down_s: float = 0.0) -> None:
        self.end()
        time.sleep(down_s)
        self.start()


class Mosquitto(BrokerServer):
    """Mosquitto with what docs/streams.md asks for, and with TLS where it has a certificate."""

    certificate: Path | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {self.folder}/\nmax_queued_messages 0\n"
            # It gives its own files away where it is started as root.
            "user root\n"
        )
        if self.certificate is not None:
            with config.open("a") as file:
                file.write(f"certfile {self.certificate}\nkeyfile {self.certificate}\n")
        return [mosquitto_program(), "-c", str(config)], {}


class RabbitMQ(BrokerServer):
    """RabbitMQ as it comes, a node of its own."""

    def __init__(self, folder: Path) -> None:
        port, self.distribution_port, self.epmd_port = free_ports(3)
        super().__init__(folder, port)

    def variables(self) -> dict[str, str]:
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 10MB\n"
        )
        return {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"storemon-{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
            "ERL_EPMD_PORT": str(self.epmd_port),
        }

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [str(rabbitmq_program())], self.variables()

    def end_all(self) -> None:
        """End the node, which nobody needs any more, and the name server that it has started."""
        self.end(signal.SIGKILL)
        end = time.monotonic() + 10
        # It does not end before it has noticed that the node is gone.
        while time.monotonic() < end and "Killed" not in self._end_name_server():
            time.sleep(0.2)

    def _end_name_server(self) -> str:
        done = subprocess.run(
            ["epmd", "-kill"],
            env={**os.environ, **self.variables()},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.stdout + done.stderr


@contextmanager
def running_mosquitto(folder: Path) -> Iterator[Mosquitto]:
    """Mosquitto until the end of the block."""
    mosquitto_program()
    server = Mosquitto(folder, *free_ports(1))
    try:
        server.start()
        yield server
    finally:
        server.end()


@contextmanager
def running_rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    """RabbitMQ until the end of the block."""
    rabbitmq_program()
    server = RabbitMQ(folder)
    try:
        server.start()
        yield server
    finally:
        server.end_all()


class Listening:
    """A `storemon listen` process, in a home of its own."""

    def __init__(self, home: Path, address: str, *options: str, **variables: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.log = home / "listen.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*STOREMON, "listen", address, *options],
                env=environment(home, STOREMON_LOG_FORMAT="json", **variables),
                cwd=home,
                stdout=log,
                stderr=log,
            )

    def logged(self) -> str:
        """Everything that it and those before it in this home have said."""
        return self.log.read_text()

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Its exit code after that signal."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


def count_polls(home: Path) -> int:
    """How many polls the database of that home has."""
    database = home / "instance" / "storemon.db"
    # Between its first byte and its first view there is nothing to be read.
    with contextlib.suppress(sqlite3.OperationalError):
        return int(sql(database, "SELECT count(*) FROM poll")[0][0]) if database.exists() else 0
    return 0


class AmqpPublisher:
    """Publishes persistent messages to a queue: all of a chunk, or it says so by an error."""

    def __init__(self, port: int, queue: str) -> None:
        self._address = f"amqp://guest:guest@127.0.0.1:{port}/"
        self._queue = queue
        self._connection: Any = None

    def publish(self, bodies: list[bytes]) -> None:
        """Publish until the broker has said that it has them; what it had before may be there twice then."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._publish_once(bodies)
                return
            except (OSError, kombu.exceptions.KombuError, amqp.exceptions.AMQPError):
                self.close()
                assert time.monotonic() < end
                time.sleep(0.2)

    def _publish_once(self, bodies: list[bytes]) -> None:
        if self._connection is None:
            self._connection = kombu.Connection(self._address, connect_timeout=5)
            self._channel = self._connection.channel()
            kombu.Queue(self._queue, durable=True)(self._channel).queue_declare()
            self._channel.tx_select()
        producer = kombu.Producer(self._channel)
        for body in bodies:
            producer.publish(body, routing_key=self._queue, delivery_mode="persistent", retry=False)
        self._channel.tx_commit()

    def count_waiting(self) -> int:
        """How many messages wait in the queue."""
        with kombu.Connection(self._address, connect_timeout=PATIENCE_S) as connection:
            queue = kombu.Queue(self._queue, durable=True)(connection.channel())
            return int(queue.queue_declare(passive=True).message_count)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, kombu.exceptions.KombuError, amqp.exceptions.AMQPError):
                connection.release()


class MqttPublisher:
    """Publishes messages of QoS 1, each until the broker has acknowledged it."""

    def __init__(self, port: int) -> None:
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=f"publisher-{os.getpid()}", clean_session=False
        )
        self._client.max_inflight_messages_set(100)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, messages: list[tuple[str, bytes]], retain: bool = False) -> None:
        """Publish (topic, body) until the broker has them."""
        sent = [self._client.publish(topic, body, qos=1, retain=retain) for topic, body in messages]
        for one in sent:
            if one.rc == mqtt.MQTT_ERR_NO_CONN:
                # It goes out at the next connection, but would be called failed for ever.
                one.rc = mqtt.MQTT_ERR_SUCCESS
        end = time.monotonic() + PATIENCE_S
        while not all(one.is_published() for one in sent):
            assert time.monotonic() < end
            time.sleep(0.01)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
