"""A client that `openapi-python-client` generates with its defaults, used against a real server."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

KEY = "a-key-of-the-settings-that-allows-everything"
HOURS = "store_id,day,start_time_local,end_time_local\nworked,0,09:00,12:00\n"


@pytest.fixture
def package(serve: Callable[..., Server], tmp_path: Path) -> Iterator[tuple[Server, Callable[[str], Any]]]:
    """A server that asks for a key, and what imports a module of the package that is generated from its description."""
    server = serve(STOREMON_API_KEY=KEY)
    description = tmp_path / "openapi.json"
    description.write_bytes(server.get("/openapi.json", Authorization=f"Bearer {KEY}").body)
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [programs / "openapi-python-client", "generate", "--path", description, "--output-path", tmp_path / "client"],
        # It formats what it has made with ruff.
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # It speaks of JSON and forms only; nothing else of the description is passed over.
    warnings = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if line.startswith(("Unsupported", "WARNING", "ERROR"))
    ]
    unsupported = {line for line in warnings if not line.startswith("WARNING parsing POST /api/v1/feeds/")}
    assert unsupported == {
        f"Unsupported content type {kind}" for kind in ("text/csv", "application/x-ndjson", "application/gzip")
    }
    sys.path.insert(0, str(tmp_path / "client"))
    try:
        yield server, lambda name: importlib.import_module(f"storemon_client.{name}")
    finally:
        sys.path.remove(str(tmp_path / "client"))
        for name in [name for name in sys.modules if name.partition(".")[0] == "storemon_client"]:
            del sys.modules[name]


@pytest.mark.slow
def calls(module: Callable[[str], Any], client: Any) -> Callable[..., Any]:
    """Return what calls an operation of the package by its name."""

    def call(name: str, **arguments: Any) -> Any:
        return module(f"api.{name}").sync(client=client, **arguments)

    return call


def test_a_generated_client_pushes_uploads_triggers_fetches_and_lists(
    package: tuple[Server, Callable[[str], Any]],
) -> None:
    server, module = package
    models, types = module("models"), module("types")
    with module("client").AuthenticatedClient(base_url=server.url, token=KEY) as client:
        call = calls(module, client)
        row = models.PollsFeedRow
        polls = [
            row(store_id="worked", timestamp_utc="2024-10-14 10:14:00 UTC", status="active"),
            # 2024-10-14 11:15:00 UTC
            row(store_id="worked", timestamp_utc=1728904500, status="inactive"),
            row(store_id="worked", timestamp_utc="noon", status="active"),
        ]
        loaded = call("feeds.push_polls", body=polls)
        assert isinstance(loaded, models.Loaded)
        assert (loaded.new, loaded.rejected, loaded.rejects[0].line) == (2, 1, 3)
        assert loaded.reasons.additional_properties == {loaded.rejects[0].reason: 1}
        zone = models.TimezonesFeedRow(store_id="worked", timezone_str="UTC")
        assert call("feeds.push_timezones", body=zone).new == 1

        files = [
            types.File(payload=BytesIO(text.encode()), file_name=name)
            for name, text in (("hours.csv", HOURS), ("names.csv", "store_id,name\nworked,Broadway 12\n"))
        ]
        load = call("feeds.upload", body=models.Upload(file=files))
        assert [(file.file, file.feed, file.new) for file in load.files] == [
            ("hours.csv", "hours", 1),
            ("names.csv", "stores", 1),
        ]

        refused = call("feeds.push_polls", body=polls, atomic=models.PushPollsAtomic.VALUE_1)
        assert (type(refused), refused.status, refused.rejected) == (models.Problem, 422, 1)

        lists_stores_and_reports(module, client, loaded.load_id)


def lists_stores_and_reports(module: Callable[[str], Any], client: Any, load_id: int) -> None:
    call, models = calls(module, client), module("models")
    as_of = datetime(2024, 10, 14, 12, 0, tzinfo=UTC)
    window = models.Window(from_="2024-10-14", to="2024-10-15", name="monday")
    triggered = call("reports.trigger_report", body=models.Trigger(as_of=as_of))
    assert triggered.status == models.TriggeredStatus.RUNNING
    text = call("reports.get_report", report_id=triggered.report_id, wait=60)
    assert text.splitlines()[1] == "worked,0.00,1.74,1.74,60.00,1.26,1.26"
    rows = module("api.reports.get_report").sync_detailed(
        client=client, report_id=triggered.report_id, format_=models.GetReportFormat.JSON
    )
    complete = models.Complete.from_dict(json.loads(rows.content))
    assert isinstance(complete.rows[0], models.ReportRow)
    assert (complete.rows[0].store_id, complete.rows[0].downtime_last_hour) == ("worked", 60.0)
    asked = models.Trigger(windows=[window], columns=models.TriggerColumns.FULL)
    shaped = call("reports.trigger_report", body=asked)
    assert call("reports.get_report", report_id=shaped.report_id, wait=60).startswith(
        "store_id,timezone,name,group,uptime_monday,"
    )
    assert call("reports.one_report", report_id=triggered.report_id).as_of == as_of
    missing = call("reports.get_report", report_id="0" * 32)
    assert (type(missing), missing.status) == (models.Problem, 404)
    assert call("reports.latest_report", as_of=as_of, stores=["worked"], totals=False).startswith("store_id,")

    stores = call("stores.stores")
    assert [(store.store_id, store.name, store.timezone) for store in stores.stores] == [
        ("worked", "Broadway 12", "UTC")
    ]
    assert call("stores.one_store", store_id="worked").hours[0].day == 0
    changed = call("stores.put_timezone", store_id="worked", body=models.Timezone(timezone="Europe/Berlin"))
    assert changed.changed == 1
    # A sum of a store's minutes, by the type that it is described as.
    assert call("stores.store_timeline", store_id="worked").sums.business_us > 0
    assert [past.load_id for past in call("loads.loads").loads][-1] == load_id
    assert "storemon_polls 2.0" in call("service.metrics")
