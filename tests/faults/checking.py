"""`storemon check` after a fault, where there is that command."""

from pathlib import Path

from conftest import storemon

from storemon_flask.server import commands


def check(home: Path) -> None:
    """Fails when `storemon check` finds anything wrong with the home."""
    if "check" in {command.name for command in commands()}:
        done = storemon(home, "check")
        assert done.returncode == 0, done.stdout + done.stderr
