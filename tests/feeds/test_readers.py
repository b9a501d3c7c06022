"""Store ids through every reader: what is destroyed is rejected, what cannot be seen splits no store in two."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from feed_helpers import push
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from load_helpers import POLLS, csv, load, put, query, read_polls

from feeds.test_json_rows import read
from storemon_flask.database.connections import Database
from storemon_flask.feeds import readers, schema
from storemon_flask.feeds.csv_exact import RejectLog

IDS = st.one_of(
    st.text(st.sampled_from("1S#.,E+-/!NA \u200b\ufeff\u00ad\u00a0\u200d\u2067\ufe0f\t\u00e9"), max_size=8),
    st.sampled_from(["3,14E+14", "-3.14E-5", "3.14E14", "1E5", "12E-5", "########", "#N/A", "#REF!", "#12", "1001.0", "Err:502"]),
)  # fmt: skip


def _expected(ids: list[str]) -> tuple[list[str], list[str]]:
    """The ids as the validator reads them one by one, and its reasons."""
    good: list[str] = []
    reasons: list[str] = []
    for store_id in ids:
        try:
            good.append(schema.parse_store_id(store_id))
        except schema.BadValue as bad:
            reasons.append(str(bad))
    return good, reasons


@given(st.lists(IDS, min_size=1, max_size=12))
def test_every_reader_reads_the_same_ids(ids: list[str]) -> None:
    expected = _expected(ids)
    quoted = [f'"{store_id}",2024-10-14 10:00:00 UTC,active' for store_id in ids]
    bare = [f"{store_id},2024-10-14 10:00:00 UTC,active" for store_id in ids if "," not in store_id]
    # The fast reader leaves a block's last rows to the exact one.
    for rows, answer in ((quoted, expected), (bare, _expected([one for one in ids if "," not in one]))):
        for exact in (False, True):
            accepted, rejected, _ = read_polls(
                csv(POLLS, *rows, *["z,2024-10-14 10:00:00 UTC,active"] * 3), exact=exact
            )
            assert ([row[0] for row in accepted[:-3]], [row[1] for row in rejected]) == answer
    objects = [{"store_id": one, "timestamp_utc": "2024-10-14 10:00:00 UTC", "status": "active"} for one in ids]
    lines = "".join(json.dumps(row) + "\n" for row in objects)
    for text, form in ((json.dumps(objects), "json"), (lines, "ndjson")):
        log = RejectLog()
        blocks = list(readers.read_polls([read(text.encode(), form)], schema.record_header("polls"), 1 << 60, log))
        assert [block.ids[code] for block in blocks for code in block.store.tolist()] == expected[0]
        assert [reject.reason for reject in log.rejects] == expected[1]


def test_one_store_under_five_spellings_is_one_store(tmp_path: Path) -> None:
    spellings = ("1001", "\ufeff1001", "1001\u200b", "\u200e1001", "1001\u00a0")
    put(tmp_path / "polls.csv", csv(POLLS, *(f"{one},2024-05-06 1{n}:00,active" for n, one in enumerate(spellings)),
                                    "10\u00ad01,2024-05-06 21:00,active"))  # fmt: skip
    put(tmp_path / "hours.csv", csv("store_id,day,start_time_local,end_time_local", "1001,0,9:00,17:00",
                                    "1001\u200b,1,9:00,17:00"))  # fmt: skip
    put(tmp_path / "zones.csv", csv("store_id,timezone_str\u200b", "\u20681001\u2069,America/New_York"))
    with closing(Database(tmp_path / "storemon.db")) as database:
        result = load(database, *sorted(tmp_path.glob("*.csv")))
        assert [summary.error for summary in result.files] == ["", "", ""]
        assert result.files[1].reasons == {
            "store_id contains an invisible character (SOFT HYPHEN, U+00AD); remove it": 1
        }
        assert query(database.path, "SELECT store_id FROM store_record") == [("1001",)]
        assert query(database.path, "SELECT count(*) FROM poll") == [(5,)]
        assert query(database.path, "SELECT day FROM hours ORDER BY 1") == [(0,), (1,)]
        assert query(database.path, "SELECT name FROM timezone") == [("America/New_York",)]


@pytest.mark.parametrize("feed", ["polls", "hours", "timezones", "stores", "special_hours"])
def test_an_id_that_lost_its_digits_is_rejected_in_every_feed(client: FlaskClient, feed: str) -> None:
    columns = {
        "polls": {"timestamp_utc": "2024-10-14 10:00:00 UTC", "status": "active"},
        "hours": {"day": 0, "start_time_local": "9:00", "end_time_local": "17:00"},
        "timezones": {"timezone": "Asia/Tokyo"},
        "stores": {"name": "Alpha"},
        "special_hours": {"date": "2024-12-25", "start_time_local": "", "end_time_local": ""},
    }[feed]
    rows = [{"store_id": one, **columns} for one in (8139926242460185114, 8139926242460185115123, "314E14")]
    text = json.dumps(rows).replace('"314E14"', "8.139926242460185e18")
    answer = push(client, feed, text, "application/json").get_json()
    assert answer["reasons"] == {
        "store_id is a number with a fraction or an exponent, which may have lost digits: send ids as text": 1
    }
    assert answer["new"] == 2
    table = f"store_id,{','.join(columns)}\n" + "".join(
        f'"{one}",{",".join(map(str, columns.values()))}\n' for one in ("3,14E+14", "#REF!", "8139926242460185114")
    )
    answer = push(client, feed, table).get_json()
    assert answer["reasons"] == {schema.ID_SPREADSHEET: 1, schema.ID_ERROR: 1}
    assert answer["unchanged"] == 1


def test_an_unknown_store_with_an_invisible_character_is_named_with_it(client: FlaskClient) -> None:
    push(client, "polls", f"{POLLS}\na,2024-10-14 10:00,active\n")
    answer = client.post("/trigger_report", json={"stores": ["a\u200b"]})
    assert answer.status_code == 422
    assert "unknown stores: 'a<U+200B>'" in answer.get_json(force=True)["detail"]
    answer = client.get("/api/v1/stores/a%EF%B8%8F")
    assert (answer.status_code, "there is no store 'a<U+FE0F>'" in answer.get_json(force=True)["detail"]) == (404, True)
    answer = client.get("/stores/a%E2%80%8B", headers={"Accept": "text/html"})
    assert (answer.status_code, "There is no store &#39;a&lt;U+200B&gt;&#39;" in answer.text) == (404, True)
