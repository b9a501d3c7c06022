"""Every command closes the database it has opened before it ends."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Run, database
from cli_helpers import example as example
from cli_helpers import home as home
from cli_helpers import run as run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def nothing_is_collected() -> Iterator[None]:
    """Connections that nobody closes stay open as long as the garbage collector does not come by."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_databases(home: Path) -> list[str]:
    """The files of the database that this process has open."""
    found = []
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            found.append(str(descriptor.readlink()))
        except OSError:  # the one that listed them
            continue
    return [name for name in found if name.startswith(str(database(home)))]


@pytest.mark.parametrize(
    "arguments",
    [
        ["load-data"],
        ["rejects"],
        ["loads"],
        ["report"],
        ["report", "--store", "nobody"],
        ["outages"],
        ["stores"],
        ["store", "worked"],
        ["store", "nobody"],
        ["info"],
        ["keys", "add", "--scope", "read"],
        ["keys", "list"],
        ["keys", "revoke", "sm_nobody"],
        ["check"],
        ["backup", "copy.db"],
        ["prune", "--before", "2024-01-01", "--yes"],
        ["export", "out"],
    ],
    ids=" ".join,
)
def test_no_connection_is_open_when_a_command_has_ended(
    run: Run, example: Path, home: Path, arguments: list[str]
) -> None:
    assert run("load-data").code == 0
    assert database(home).is_file()
    done = run(*arguments)
    assert done.code == (1 if arguments[-1] in ("nobody", "sm_nobody") else 0), done
    assert open_databases(home) == []
