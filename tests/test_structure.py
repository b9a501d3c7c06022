"""Who may import whom, where SQL is, and what the repository holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from storemon_flask.server import commands

PACKAGE = ROOT / "storemon_flask"
MODULES = sorted(PACKAGE.rglob("*.py"))


def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def test_each_layer_imports_only_those_below_it() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [2-9] kept, 0 broken", done.stdout)


def test_nothing_heavy_and_nothing_by_accident_is_kept_in_the_repository() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: there is no list of what is kept")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = [ROOT / name for name in listed.split("\0") if name]
    assert len(kept) > 300
    assert [path for path in kept if path.is_file() and path.stat().st_size > 2_000_000] == []
    assert {path.parent for path in kept if path.name.startswith(("core.", "nohup"))} == set()


def test_sql_is_only_in_the_database_package() -> None:
    words = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|BEGIN IMMEDIATE)\b")
    with_sql = {path.relative_to(PACKAGE).parts[0] for path in MODULES if words.search(path.read_text("utf-8"))}
    assert with_sql == {"database"}


def test_sql_has_no_numbered_placeholders() -> None:
    """With a sequence of values Python 3.12.0 and 3.12.1 warn of them, and warnings are errors here."""
    numbered = re.compile(r"\?\d")
    assert [path.name for path in (PACKAGE / "database").glob("*.py") if numbered.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("words", ["make demo", "make test", "POST", "/trigger_report", "/get_report"])
def test_the_readme_says_how_to_try_it(words: str) -> None:
    assert words in readme()


def test_the_commands_are_those_of_the_contract() -> None:
    assert {"load-data", "rejects", "report", "serve", "demo", "info"} <= {command.name for command in commands()}
