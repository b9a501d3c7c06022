"""What a pushed body is: its content decides, whatever it is labelled as."""

import gzip
import io
import json
from typing import Any, cast

import pytest
from feed_helpers import GOOD, POLLS, counts, problem, push
from flask.testing import FlaskClient
from ingest_helpers import Cut

from storemon_flask.feeds import json_rows, sources

ROWS = [
    {"store_id": "a", "timestamp_utc": "2024-10-14 10:00:00", "status": "active"},
    {"store_id": "b", "timestamp_utc": "2024-10-14 10:00:00", "status": "inactive"},
]
LINES = "\n".join(map(json.dumps, ROWS))
LABELS = (
    "", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain", "text/plain; charset=utf-8", "text/csv",
    "application/json", "application/json; charset=utf-8", "application/jsonl", "application/x-ndjson", "application/x-jsonlines",
    "application/vnd.shipper+json", "text/json", "application/gzip-is-not-this", "image/png",
)  # fmt: skip
BODIES = {
    "csv": GOOD["polls"].encode(),
    "csv with CRLF": GOOD["polls"].replace("\n", "\r\n").encode(),
    "csv in quotes": "\n".join(
        ",".join(f'"{field}"' for field in line.split(",")) for line in GOOD["polls"].splitlines()
    ).encode(),
    "a list": json.dumps(ROWS).encode(),
    "an indented list": json.dumps(ROWS, indent=2).encode(),
    "ndjson": LINES.encode(),
    "ndjson with CRLF": LINES.replace("\n", "\r\n").encode() + b"\r\n",
    "ndjson behind blank lines": b"\n \r\n" + LINES.encode(),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("body", BODIES)
def test_every_label_is_read_by_its_content(client: FlaskClient, body: str, bom: bytes, packed: bool) -> None:
    data = bom + BODIES[body]
    if packed:
        data = gzip.compress(data, mtime=0)
    push(client, "polls", GOOD["polls"])
    for label in LABELS:
        answer = push(client, "polls", data, label)
        assert answer.status_code == 200, (label, answer.text)
        assert counts(answer.json) == (2, 0, 0, 2, 0, 0), label


@pytest.mark.parametrize(
    ("body", "label", "note"),
    [
        ("csv", "application/json", "its Content-Type is application/json, but it is CSV, and was read so"),
        ("csv", "application/x-ndjson", "its Content-Type is application/x-ndjson, but it is CSV, and was read so"),
        ("a list", "text/csv", "its Content-Type is text/csv, but it is JSON, and was read so"),
        ("ndjson", "text/csv", "its Content-Type is text/csv, but it is NDJSON, and was read so"),
        ("ndjson", "application/json", ""),
        ("a list", "application/x-ndjson", ""),
        ("csv", "text/plain", ""),
        ("csv", "", ""),
    ],
)
def test_a_label_that_contradicts_the_content_is_noted(client: FlaskClient, body: str, label: str, note: str) -> None:
    answer = push(client, "polls", BODIES[body], label).json
    assert answer["new"] == 2
    assert [found for found in answer["notes"] if "Content-Type" in found] == ([note] if note else [])


@pytest.mark.parametrize("label", ["", "application/json", "application/x-ndjson", "text/plain", "text/csv"])
def test_one_object_is_one_row(client: FlaskClient, label: str) -> None:
    assert counts(push(client, "polls", json.dumps(ROWS[0]), label).json) == (1, 1, 0, 0, 0, 0)
    if label != "application/x-ndjson":
        assert counts(push(client, "polls", json.dumps(ROWS[0], indent=1), label).json) == (1, 0, 0, 1, 0, 0)


@pytest.mark.parametrize("label", ["", "application/json", "text/plain", "application/jsonl"])
def test_a_broken_line_among_objects_is_one_reject(client: FlaskClient, label: str) -> None:
    first, second = LINES.splitlines()
    for lines in ((first, "{broken", second), ("{broken", first, second), (first, second, first[:-5])):
        answer = push(client, "polls", "\n".join(lines), label).json
        assert (answer["rows"], answer["rejected"]) == (3, 1)
        assert answer["reasons"] == {json_rows.NOT_JSON: 1}


def test_broken_json_is_still_refused_as_json(client: FlaskClient) -> None:
    for label in ("", "application/json", "text/plain"):
        for body, why in (
            ('{"store_id": 1', "row 1: "),
            ('[{"store_id": 1}', "its list has no end"),
            ("[1] 2", "something follows its end"),
        ):
            assert why in problem(push(client, "polls", body, label), 400)
    assert "begins with neither" in problem(push(client, "polls", "7", "application/json"), 400)


def test_a_header_in_brackets_is_csv_when_it_says_so(client: FlaskClient) -> None:
    assert "the header fits no feed: it has 2 columns, of which storemon knows none" in problem(
        push(client, "polls", "[store_id],[x]\n", "text/csv"), 422
    )


def test_nothing_is_lost_of_what_is_looked_at(client: FlaskClient) -> None:
    filler = " " * 5000
    row = json.dumps({**ROWS[0], "x": "y" * 60_000})
    bodies = [
        f"{filler}\n{LINES}",
        f"{row}\n{LINES}\n",
        f"[{filler}{row}]",
        POLLS + f"a,2024-10-14,{'x' * 3_000_000}\n",
    ]
    for body in bodies:
        for sizes in ((1,), (700,), ()):
            if sizes == (1,) and len(body) > 100_000:
                continue
            stream, _, note = sources.detect_format(cast(Any, Cut(body.encode(), sizes)), "")
            assert stream.read() == body.encode()
            assert note == ""


def test_a_gzip_within_a_gzip_is_told_by_its_bytes() -> None:
    data = gzip.compress(gzip.compress(LINES.encode()))
    stream, form, _ = sources.detect_format(io.BytesIO(data), "application/gzip")
    assert (stream.read(), form) == (LINES.encode(), "ndjson")


def test_depth_is_limited_alike_in_every_form_and_on_every_interpreter(client: FlaskClient) -> None:
    def row(levels: int) -> str:
        nested = "[" * (levels - 1) + "]" * (levels - 1)
        return f'{{"store_id":"a","timestamp_utc":"2024-10-14 10:00:00","status":"active","x":{nested},"y":"[{{[{{"}}'

    limit = json_rows.MAX_DEPTH
    assert push(client, "polls", f"[{row(limit)}]", "application/json").json["new"] == 1
    assert "row 2 is nested too deeply (more than 64 levels)" in problem(
        push(client, "polls", f"[{row(2)},{row(limit + 1)}]", "application/json"), 400
    )
    answer = push(client, "polls", f"{row(limit)}\n{row(limit + 1)}\n{row(900)[:-300]}", "application/json").json
    assert (answer["unchanged"], answer["reasons"]) == (1, {json_rows.TOO_DEEP: 2})
    wide = json.dumps({**ROWS[0], "x": [[] for _ in range(1000)]})
    assert push(client, "polls", wide, "application/json").json["unchanged"] == 1
