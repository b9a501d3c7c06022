"""A real nginx with the configuration of `deploy/nginx.conf`, in front of a server of a test."""

import grp
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, Server, wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
# What only a machine that serves others has: certificates.
TLS = ("listen [::]:443 ssl;", "ssl_certificate /", "ssl_certificate_key /", "ssl_protocols ")


def shipped_configuration(server: Server, port: int, folder: Path, at_once: int | None) -> str:
    """Return `deploy/nginx.conf` without TLS, for these ports, with its logs in that folder; `at_once` requests of one address, or as many as it
    says.
    """
    lines = (ROOT / "deploy" / "nginx.conf").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.strip().startswith(TLS))
    changes = {
        "/var/log/nginx/": f"{folder}/",
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "proxy_pass http://127.0.0.1:8000;": f"proxy_pass {server.url};",
    }
    if at_once is not None:
        changes["limit_conn storemon_clients 50;"] = f"limit_conn storemon_clients {at_once};"
    for shipped, changed in changes.items():
        assert shipped in text, shipped
        text = text.replace(shipped, changed)
    return text


@contextmanager
def nginx_before(server: Server, folder: Path, at_once: int | None = None) -> Iterator[int]:
    """Run nginx in that folder, before that server; gives the port it listens on.

    All clients of a test have one address; `at_once` allows them more requests at once than the file does.
    """
    assert NGINX is not None
    folder.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    file = folder / "nginx.conf"
    # Nginx takes the socket over, as from another nginx that it replaces: nobody else can take the port meanwhile.
    with socket.create_server(("127.0.0.1", 0), backlog=511) as listening:
        port = int(listening.getsockname()[1])
        file.write_text(
            f"daemon off;\nuser {user} {group};\nworker_processes 1;\npid {folder}/pid;\n"
            f"error_log {folder}/error.log;\n"
            f"events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}\n"
            f"{shipped_configuration(server, port, folder, at_once)}\n}}\n"
        )
        process = subprocess.Popen(
            [NGINX, "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(file)],
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
        )
    with process:
        try:

            def runs() -> bool:
                assert process.poll() is None, (folder / "error.log").read_text()
                return (folder / "pid").exists()

            wait_until(runs, "nginx")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
