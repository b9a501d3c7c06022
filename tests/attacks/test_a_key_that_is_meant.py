"""Every way to write a key that is none, against every program that serves: none of them may be open."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, STOREMON, environment
from test_settings import EMPTY, LINES, MISSPELT, SECRET

PROGRAMS = {
    "serve": [*STOREMON, "serve", "--port", "0"],
    "wsgi.py": [sys.executable, str(ROOT / "wsgi.py")],
    "the factory": [sys.executable, "-m", "waitress", "--call", "--port=0", "storemon_flask:create_app"],
}
FILES = [
    *LINES.values(),
    *EMPTY,
    *(f"{name}={SECRET}" for name in MISSPELT),
    f"STOREMON_API_KEY={SECRET}\nSTOREMON_API_KEY=",
]
BYTES = [file.encode() for file in FILES] + [
    f"STOREMON_API_KEY={SECRET}\n".encode(coding) for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_server_starts_with_a_key_that_was_meant_and_is_none(tmp_path: Path, program: str) -> None:
    for number, data in enumerate(BYTES):
        home = tmp_path / str(number)
        home.mkdir()
        (home / ".env").write_bytes(data)
        done = subprocess.run(
            PROGRAMS[program],
            env=environment(home, PYTHONPATH=str(ROOT)),
            cwd=home,
            capture_output=True,
            # A server that starts would run on.
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 1, data
        assert b".env" in done.stderr, data
        assert b"horse" not in done.stdout + done.stderr, data
        assert [file.name for file in home.iterdir()] == [".env"], data
