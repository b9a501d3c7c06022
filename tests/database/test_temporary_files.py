"""Temporary files that cannot be written, where no disk has to be full; tests/faults has those with one that is."""

import errno
import os
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
from conftest import STOREMON, http
from flask.testing import FlaskClient
from server_helpers import Serve

from storemon_flask.database import files
from storemon_flask.settings import Settings

STORED = "nothing of this was stored"


def failed(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_body_that_cannot_be_kept_is_refused_with_the_reason(serve: Serve, tmp_path: Path) -> None:
    # No file may be larger than a megabyte (in blocks of 1,024 bytes).
    limited = ["bash", "-c", 'ulimit -f 1000; exec "$@"', "bash", *STOREMON, "serve", "--port", "0"]
    server = serve(limited, TMPDIR=str(tmp_path))
    answer = http(f"{server.url}/api/v1/feeds/polls", "POST", b"x" * 3_000_000, Content_Type="text/csv")
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    sentence = f"the folder for temporary files, {tmp_path}, cannot be written (File too large), so {STORED}"
    assert answer.json["detail"] == sentence
    assert len(answer.headers["X-Request-Id"]) == 16
    (line,) = server.log.read_text().splitlines()
    assert line.partition("Z ")[2] == f"ERROR storemon.server: POST /api/v1/feeds/polls: {sentence}"
    assert server.get("/healthz").status == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_is_said_with_what_to_do(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert files.no_temporary_room(failed(number), STORED).message == (
        f"the folder for temporary files, {tmp_path}, is full, so {STORED}; make room there, or start the server with TMPDIR set "
        "to a folder that has more"
    )


def test_what_else_is_wrong_with_the_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert files.no_temporary_room(failed(errno.ENOENT), STORED).message == (
        f"the folder for temporary files, {tmp_path}, cannot be written (No such file or directory), so {STORED}"
    )

    def none() -> str:
        raise failed(errno.ENOENT)

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert files.no_temporary_room(failed(errno.ENOENT), STORED).message == (
        f"no folder for temporary files can be written, so {STORED}; set TMPDIR to one that can"
    )


def test_not_ready_without_room_for_temporary_files(
    client: FlaskClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir()
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(49_999_999 if folder == place else 10**12))
    answer = client.get("/readyz")
    sentence = "the disk of the temporary files (TMPDIR) has 49 MB free, less than the 50 of STOREMON_MIN_FREE_MB"
    assert (answer.status_code, answer.json["detail"]) == (503, sentence)
    assert answer.json["checks"] == {"database": "ok", "disk": sentence, "reports": "ok", "jobs": "ok"}
