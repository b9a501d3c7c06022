"""The application below another WSGI server than `storemon serve`."""

import socket
import subprocess
import sys

from conftest import environment, http, wait_until

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings


def test_a_report_is_computed_below_another_server(small_fleet: object, settings: Settings, database: Database) -> None:
    database.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "waitress", "--call", f"--listen=127.0.0.1:{port}", "storemon_flask:create_app"]
    with subprocess.Popen(
        command, env=environment(settings.home), cwd=settings.home, stderr=subprocess.DEVNULL
    ) as server:
        try:

            def answers() -> bool:
                try:
                    return http(url + "/healthz").status == 200
                except OSError:
                    return False

            wait_until(answers, "the server")
            report_id = http(url + "/trigger_report", "POST", b"").json["report_id"]
            address = f"{url}/get_report?report_id={report_id}"
            done = wait_until(lambda: (answer := http(address)).status == 200 and answer, "the report")
            assert done.headers["X-Report-Status"] == "Complete"
            assert done.body.count(b"\n") == 5
        finally:
            server.terminate()


def test_a_request_forges_no_line_in_the_log_of_another_server(settings: Settings) -> None:
    settings.home.mkdir()
    code = """
from storemon_flask import create_app
app = create_app()
@app.get("/broken/<path>")
def broken(path):
    raise ValueError(path)
client = app.test_client()
client.get("/broken/x%0AERROR forged%1B%5D0;t%07%E2%80%AE")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(settings.home),
        cwd=settings.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, *others = done.stderr.splitlines()
    assert r"ERROR storemon.web: GET /broken/x\nERROR forged\x1b]0;t\x07\u202e failed" in first
    assert all(line.startswith("    ") for line in others)
    assert others[-1].endswith(r"\x1b]0;t\x07\u202e")
