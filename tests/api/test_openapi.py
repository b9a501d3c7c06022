"""openapi.json is valid, complete, closed, described, and says what a key must allow."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import STORE_IDS
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from storemon_flask import create_app
from storemon_flask.database import keys
from storemon_flask.reports.csv import CLASSIC_COLUMNS
from storemon_flask.settings import Settings
from storemon_flask.web.contract import Operation

# Pages are for people; they are no part of the interface for programs.
PAGES = {
    "/",
    "/alerts",
    "/overview",
    "/alerts/channels/<int:channel>/remove",
    "/alerts/channels/<int:channel>/test",
    "/alerts/deliveries",
    "/data/previews",
    "/data/previews/<string:token>",
    "/data/previews/<string:token>/apply",
    "/data/previews/<string:token>/discard",
    "/data/push",
    "/data/push/<string:prefix>/revoke",
    "/outages",
    "/stores",
    "/stores/<store:store_id>",
    "/docs",
    "/reports",
    "/reports/<string:report_id>",
    "/reports/schedules",
    "/reports/schedules/<int:schedule>/remove",
    "/reports/schedules/<int:schedule>/run",
    "/reports/<string:report_id>/changes",
    "/reports/<string:report_id>/delete",
    "/data",
    "/data/loads/<int:load>",
    "/data/loads/<int:load>/undo",
    "/stores/<store:store_id>/remove",
}
PROBES = {"/healthz", "/readyz"}
OPEN = PROBES | {"/push/{token}"}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    found: dict[str, Any] = answer.json
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, item in document["paths"].items() for method, one in item.items()]


def schemas_in(node: Any) -> list[dict[str, Any]]:
    """Every JSON Schema of an object type below a node."""
    found = []
    if isinstance(node, dict):
        if "properties" in node and node.get("type") == "object":
            found.append(node)
        for value in node.values():
            found += schemas_in(value)
    elif isinstance(node, list):
        for value in node:
            found += schemas_in(value)
    return found


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_it_has_every_route_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    served = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static" or rule.rule in PAGES:
            continue
        words = re.search(r"<any\(([^)]*)\):\w+>", rule.rule)
        for word in words[1].split(", ") if words else [""]:
            path = re.sub(r"<any\([^)]*\):\w+>", word, rule.rule)
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)
            served |= {(path, method.lower()) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert served == {(path, method) for path, method, _ in operations(document)}
    assert len(served) > 15


def test_everything_is_described(document: dict[str, Any]) -> None:
    for path, method, one in operations(document):
        described = [one, *one.get("parameters", []), *one["responses"].values()]
        described += [one["requestBody"]] if "requestBody" in one else []
        for answer in one["responses"].values():
            described += [*answer.get("headers", {}).values(), *answer.get("links", {}).values()]
        for told in described:
            assert len(told.get("description", "")) > 3, (path, method, told)
        assert "key" in one["description"], (path, method)
    for name, schema in document["components"]["schemas"].items():
        assert len(schema["description"]) > 3, name
        for field, told in schema["properties"].items():
            assert len(told["description"]) > 3, (name, field)
    for told in (document["info"], *document["tags"], *document["components"]["securitySchemes"].values()):
        assert told["description"]


def test_objects_have_names_and_rows_are_references(document: dict[str, Any]) -> None:
    assert schemas_in(document["paths"]) == []
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        assert schemas_in(list(schema["properties"].values())) == [], name
    for name, row in (("Complete", "ReportRow"), ("Shaped", "ShapedRow")):
        assert schemas[name]["properties"]["rows"]["items"] == {"$ref": f"#/components/schemas/{row}"}
    for feed, row in (("polls", "PollsFeedRow"), ("special_hours", "SpecialHoursFeedRow")):
        body = document["paths"][f"/api/v1/feeds/{feed}"]["post"]["requestBody"]["content"]["application/json"][
            "schema"
        ]
        reference = {"$ref": f"#/components/schemas/{row}"}
        assert (body["anyOf"][0]["items"], body["anyOf"][1]) == (reference, reference)
        assert all("type" in told for told in schemas[row]["properties"].values())


def test_no_choice_is_longer_than_a_person_reads(document: dict[str, Any]) -> None:
    def choices(node: Any) -> list[list[Any]]:
        if isinstance(node, dict):
            own = [node["enum"]] if isinstance(node.get("enum"), list) else []
            return own + [one for value in node.values() for one in choices(value)]
        return [one for value in node for one in choices(value)] if isinstance(node, list) else []

    found = choices(document)
    assert len(found) > 10
    assert max(map(len, found)) <= 30


def test_bytes_are_binary(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["Upload"]["properties"]["file"]["items"] == {
        "type": "string",
        "format": "binary",
    }
    contents = [
        (kind, told["schema"])
        for _, _, one in operations(document)
        for holder in (one.get("requestBody", {}), *one["responses"].values())
        for kind, told in holder.get("content", {}).items()
    ]
    for kind, schema in contents:
        if "gzip" in kind or "spreadsheet" in kind:
            assert (schema["type"], schema["format"]) == ("string", "binary"), kind
        if kind.startswith("text/"):
            assert schema["type"] == "string"
            assert "format" not in schema
    assert {kind for kind, _ in contents} >= {"application/gzip", "text/csv"}
    assert any("spreadsheet" in kind for kind, _ in contents)


def test_operations_are_named_once_and_tell_what_they_do(document: dict[str, Any]) -> None:
    found = operations(document)
    names = [one["operationId"] for _, _, one in found]
    assert len(set(names)) == len(names)
    known = {tag["name"] for tag in document["tags"]}
    for _, _, one in found:
        assert len(one["summary"]) > 10
        assert set(one["tags"]) <= known
        for parameter in one.get("parameters", []):
            assert len(parameter["description"]) > 5, parameter


def test_what_is_answered_is_closed_and_every_field_described(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    for name, schema in components.items():
        assert schema.get("description"), name
        if not name.endswith("FeedRow") and name != "ShapedRow":
            assert schema["additionalProperties"] is False, name
        for field, told in schema["properties"].items():
            assert told.get("description"), (name, field)
    for path, _, one in operations(document):
        for schema in schemas_in(one["responses"]):
            assert schema["additionalProperties"] is False, (path, schema)


def test_every_status_that_any_call_may_answer_is_there(document: dict[str, Any]) -> None:
    for path, _, one in operations(document):
        assert {"400", "422", "431", "500", "503"} <= set(one["responses"]), path
        assert ({"401", "403"} <= set(one["responses"])) == (path not in OPEN), path
        assert any(status.startswith("2") for status in one["responses"]), path
        assert ("404" in one["responses"]) or "{" not in path, path
        if "requestBody" in one:
            assert "413" in one["responses"], path
        for status, answer in one["responses"].items():
            if status >= "400":
                assert set(answer["content"]) == {"application/problem+json"}, (path, status)
        assert path == "/readyz" or "Retry-After" in one["responses"]["503"]["headers"]


def test_feeds_are_taken_in_four_forms_with_an_example(document: dict[str, Any]) -> None:
    for feed in ("polls", "hours", "timezones", "stores"):
        content = document["paths"][f"/api/v1/feeds/{feed}"]["post"]["requestBody"]["content"]
        assert set(content) == {"text/csv", "application/json", "application/x-ndjson", "application/gzip"}
        names = content["text/csv"]["example"].splitlines()[0].split(",")
        assert names == list(content["application/json"]["example"][0])
        assert names == list(json.loads(content["application/x-ndjson"]["example"]))


@pytest.mark.parametrize("feed", ["polls", "hours", "timezones", "stores"])
@pytest.mark.parametrize("kind", ["text/csv", "application/json", "application/x-ndjson"])
def test_the_examples_are_taken(client: FlaskClient, document: dict[str, Any], feed: str, kind: str) -> None:
    example = document["paths"][f"/api/v1/feeds/{feed}"]["post"]["requestBody"]["content"][kind]["example"]
    body = example if isinstance(example, str) else json.dumps(example)
    answer = client.post(f"/api/v1/feeds/{feed}", data=body, content_type=kind)
    assert answer.status_code == 200, answer.text
    assert (answer.json["rows"], answer.json["new"], answer.json["rejected"]) == (1, 1, 0)


def test_security_says_which_scope_and_is_optional_where_no_key_is_needed(
    app: Flask, client: FlaskClient, document: dict[str, Any]
) -> None:
    scopes = {
        (view.view.__name__, view.method): view.scope
        for view in app.view_functions.values()
        if isinstance(view, Operation)
    }
    for path, method, one in operations(document):
        view = re.sub("^push_.*", "push", one["operationId"])
        scope = scopes[view, method.upper()]
        needed = [{"bearer": [scope]}, {"basic": [scope]}]
        assert one["security"] == ([] if path in OPEN else [{}, *needed])
    key = keys.add(app.extensions["storemon"].database, "read", "", 1)
    locked = client.get("/openapi.json", headers={"Authorization": f"Bearer {key}"}).json
    for path, _, one in operations(locked):
        assert len(one["security"]) == (0 if path in OPEN else 2)
    assert set(locked["components"]["securitySchemes"]) == {"bearer", "basic"}


def test_it_needs_a_key_where_calls_do(app: Flask, client: FlaskClient) -> None:
    keys.add(app.extensions["storemon"].database, "read", "", 1)
    assert client.get("/openapi.json").status_code == 401


def test_it_is_the_same_every_time_and_may_be_kept(settings: Settings, client: FlaskClient) -> None:
    answer = client.get("/openapi.json")
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = create_app(settings)
    assert other.test_client().get("/openapi.json").data == answer.data
    other.extensions["storemon"].database.close()


def test_links_lead_to_operations_and_to_parameters_that_they_have(document: dict[str, Any]) -> None:
    found = {one["operationId"]: one for _, _, one in operations(document)}
    links = 0
    for one in found.values():
        for answer in one["responses"].values():
            for link in answer.get("links", {}).values():
                links += 1
                target = {parameter["name"] for parameter in found[link["operationId"]]["parameters"]}
                assert set(link["parameters"]) <= target
    assert links >= 10


@pytest.mark.parametrize("limit", ["1_0", "\u0661", "1.0", " 1", "+1", "", "9" * 5000, "true"])
def test_a_whole_number_in_an_address_is_plain_digits(client: FlaskClient, limit: str) -> None:
    answer = client.get("/api/v1/loads", query_string={"limit": limit})
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["limit"])


@pytest.mark.parametrize(
    ("day", "status"), [(0, 200), (1.0, 200), (6, 200), (1.5, 422), (True, 422), ("1", 422), (7, 422), (None, 422)]
)
def test_a_whole_number_in_json_is_a_number_and_is_not_rounded(client: FlaskClient, day: object, status: int) -> None:
    client.post("/api/v1/feeds/stores", json={"store_id": "store-1", "name": ""})
    rows = [{"day": day, "start_time_local": "09:00", "end_time_local": "24:00:00"}]
    answer = client.put("/api/v1/stores/store-1/hours", json={"hours": rows})
    assert answer.status_code == status, answer.text
    found = client.get("/api/v1/stores/store-1").json["hours"]
    assert [row["day"] for row in found] == ([day] if status == 200 else [])


def test_times_of_day_are_described_as_they_are_read(client: FlaskClient, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["HoursRow"]["properties"]
    client.post("/api/v1/feeds/stores", json={"store_id": "store-1", "name": ""})
    texts = ["9:00", "09:00", "09:00:59.5", "24:00", "24:00:00.1", "24:01", "25:00", "9", "09:60", "9:0", "", " 9:30\n"]
    for name, other in (("start_time_local", "end_time_local"), ("end_time_local", "start_time_local")):
        for text in texts:
            row = {"day": 0, name: text, other: "10:00"}
            answer = client.put("/api/v1/stores/store-1/hours", json={"hours": [row]})
            assert (answer.status_code == 200) == bool(re.search(schema[name]["pattern"], text)), (name, text)


@pytest.mark.parametrize("columns", ["classic", "full"])
def test_a_reports_rows_are_as_described(
    client: FlaskClient, document: dict[str, Any], small_fleet: Path, columns: str
) -> None:
    where = client.post("/trigger_report", json={"columns": columns}).headers["Location"]
    found = client.get(f"{where}&format=json").json
    assert len(found["rows"]) == len(STORE_IDS)
    told = {"$ref": "#/components/schemas/Complete", "components": document["components"]}
    validator = Draft202012Validator(told)
    validator.validate(found)
    for wrong in ({"rows": [{**found["rows"][0], "more": 1}]}, {"rows": [{}]}, {"status": "Done"}, {"more": 1}):
        assert not validator.is_valid({**found, **wrong}), wrong
    shown = set(document["components"]["schemas"]["ReportRow"]["properties"])
    assert set(found["rows"][0]) == (shown if columns == "full" else set(CLASSIC_COLUMNS))


def test_a_report_that_failed_is_as_described(
    client: FlaskClient, document: dict[str, Any], small_fleet: Path, settings: Settings
) -> None:
    settings.reports_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.reports_dir.write_text("in the way")
    found = client.get(client.post("/trigger_report").headers["Location"]).json
    assert (found["status"], found["title"]) == (409, "Report failed")
    told = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    Draft202012Validator(told).validate(found)


def test_what_is_no_parameter_is_an_error_everywhere_but_for_the_health_check(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    for path, method, _ in operations(document):
        address = re.sub(r"\{\w+\}", "1", path) + "?colour=red" + ("&report_id=1" if path == "/get_report" else "")
        answer = client.open(address, method=method.upper())
        if path in PROBES:
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), path
            assert "colour" in answer.json["detail"]
