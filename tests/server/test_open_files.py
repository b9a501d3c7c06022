"""How many files the server may open."""

import sys

import pytest
from conftest import STOREMON
from server_helpers import Serve

resource = pytest.importorskip("resource")


@pytest.mark.skipif(sys.platform != "linux", reason="asks another process")
def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(serve: Serve) -> None:
    server = serve(["bash", "-c", 'ulimit -S -n 100; exec "$@"', "bash", *STOREMON, "serve", "--port", "0"])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
