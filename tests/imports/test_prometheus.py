"""A real Prometheus: raw samples with their own timestamps, and nothing where it did not watch."""

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from broker_helpers import free_ports
from cli_helpers import Run, home, run  # noqa: F401
from conftest import PATIENCE_S, wait_until

from imports.made_sources import START_US, read
from storemon_flask.errors import DataError
from storemon_flask.imports.prometheus import PrometheusReader

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and shutil.which("promtool")), reason="there is no prometheus: apt-get install prometheus"
)
START_S = START_US // 1_000_000
# Every 15 s for 9 hours, with 3 hours in which nobody watched; down from 1:00:00 to 1:04:45.
WATCHED = [*range(0, 3 * 3600, 15), *range(6 * 3600, 9 * 3600, 15)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    lines = ["# TYPE probe_success gauge"]
    lines += [
        f'probe_success{{job="stores",instance="{name}"}} {int(name == "elm" or not 3600 <= s < 3900)} {START_S + s}.25'
        for name in ("oak", "elm")
        for s in WATCHED
    ]
    lines += [f'probe_success{{job="other"}} 1 {START_S}', "# EOF", ""]
    (folder / "samples").write_text("\n".join(lines))
    (folder / "prometheus.yml").write_text("global: {}\n")
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "samples", folder / "data"],
        check=True, capture_output=True, timeout=4 * PATIENCE_S,
    )  # fmt: skip
    (port,) = free_ports(1)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=PATIENCE_S).close()
            return True
        return False

    try:
        wait_until(is_ready, "Prometheus", 4 * PATIENCE_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(4 * PATIENCE_S)


def reader(address: str, query: str) -> PrometheusReader:
    return PrometheusReader(address, query, "instance", START_US - 86_400_000_000, START_US + 86_400_000_000)


def test_samples_are_raw_thinned_and_absent_where_nobody_watched(address: str) -> None:
    polls, said = read(reader(address, 'probe_success{job="stores"}'))
    oak = [(float(at) - START_S, status) for store, at, status in polls if store == "oak"]
    inactive = [at for at, status in oak if status == "inactive"]
    assert inactive == [3600.25, 3885.25]
    assert {3585.25, 3900.25} <= {at for at, status in oak if status == "active"}
    times = [at for at, _ in oak]
    assert times == sorted(times)
    assert {int(at) for at in times} <= set(WATCHED)
    assert (10785.25, 21600.25) in list(pairwise(times))
    assert len(times) == 18 + 18 + 3 + 2
    assert "checked most often every 15 s" in said[0]
    assert f"{len(polls):,} of 2,880 checks are kept" in said[0]


def test_a_series_without_the_label_has_no_store(address: str) -> None:
    polls, said = read(reader(address, "probe_success"))
    assert [status for store, _, status in polls if not store] == ["active"]
    assert said[-1] == "1 series without the label instance: its samples are rejected"


@pytest.mark.parametrize("query", ["rate(probe_success[5m])", "probe_success{", "1"])
def test_what_is_no_metric_is_refused_with_what_prometheus_says(address: str, query: str) -> None:
    with pytest.raises(DataError, match=re.escape(address) + r" answered 4\d\d .*parse error"):
        read(reader(address, query))


def test_the_command_loads_the_same_again_without_a_change(address: str, run: Run, home: Path) -> None:  # noqa: F811
    arguments = ["--query", 'up{job="none"}', "--store-label", "instance", "--to", "2026-10-06T00:00Z"]
    assert run("import", "prometheus", address, *arguments).code == 0
    arguments[1] = 'probe_success{job="stores"}'
    counts = []
    for _ in range(2):
        done = run("import", "prometheus", address, *arguments)
        assert done.code == 0, done.err
        counts.append(next(row.split()[-6:] for row in done.out.splitlines() if "polls" in row))
    assert counts == [["79", "79", "0", "0", "0", "0"], ["79", "0", "0", "79", "0", "0"]]
