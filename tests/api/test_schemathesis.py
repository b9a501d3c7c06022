"""Schemathesis over the running server, every check on: what openapi.json says is what the server does."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Server
from flask import Flask

KEY = "sm_00000000_a_key_that_is_long_enough_for_this"
PHASES = ("Examples", "Coverage", "Fuzzing", "Stateful")


def schemathesis(server: Server, folder: Path, examples: int, seed: int, key: str = "") -> str:
    """What a run with all checks prints; fails when one of them does."""
    program = Path(sys.executable).with_name("schemathesis")
    config = ROOT / "tests" / "schemathesis.toml"
    command = [
        program,
        "--config-file",
        config,
        "run",
        f"{server.url}/openapi.json",
        "--checks",
        "all",
        "--no-color",
        "--no-shrink",
    ]
    command += ["--header", f"Authorization: Bearer {key}"] if key else []
    told = {"PYTHONPATH": str(ROOT / "tests"), "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "SCHEMATHESIS_KEY": key}
    done = subprocess.run(
        [*command, "--continue-on-failure", "--seed", str(seed), "--max-examples", str(examples)],
        env={**os.environ, **told},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


def is_whole(printed: str, app: Flask) -> None:
    """Every operation was tried, and every phase went through."""
    # It leaves out the operation that it has read the description from.
    known = sum(map(len, app.test_client().get("/openapi.json").json["paths"].values())) - 1
    assert f"Selected: {known}/{known}" in printed
    assert f"Tested: {known}" in printed
    summary = printed.partition("= SUMMARY =")[2]
    for phase in PHASES:
        assert re.search(rf"^ +✅ {phase}$", summary, re.MULTILINE), printed
    generated, passed = re.findall(r"([0-9]+) generated, ([0-9]+) passed", summary)[0]
    assert generated == passed
    assert int(generated) > 500


def nothing_went_wrong(server: Server) -> None:
    """The log tells of no fault, and the server still answers."""
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log
    assert " ERROR " not in log
    assert server.get("/healthz").status == 200


@pytest.mark.slow
def test_all_checks_with_a_key(
    serve: Callable[..., Server], small_fleet: Path, app: Flask, database: object, tmp_path: Path
) -> None:
    server = serve(STOREMON_API_KEY=KEY)
    is_whole(schemathesis(server, tmp_path, 2, 2, KEY), app)
    nothing_went_wrong(server)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_all_checks_without_a_key(server: Server, app: Flask, tmp_path: Path, seed: int) -> None:
    is_whole(schemathesis(server, tmp_path, 60, seed), app)
    nothing_went_wrong(server)
