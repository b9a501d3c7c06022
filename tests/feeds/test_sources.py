"""Finding and opening what there is to load: files, folders, .gz and .zip, and what is wrong with them."""

import importlib
import io
import os
import random
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from load_helpers import HOURS, POLLS, ZONES, counts, csv, gz, load, put, put_zip, query

from storemon_flask.database.connections import Database
from storemon_flask.errors import DataError
from storemon_flask.feeds import sources
from storemon_flask.feeds.sources import Skipped, Source, Unreadable

POLL = csv(POLLS, "s,2023-01-22 10:00:00,active")
ZONE = csv(ZONES, "s,UTC")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "home" / "storemon.db")) as found:
        yield found


def _names(*paths: Path) -> list[str]:
    return [found.name for found in sources.find_sources(list(paths)) if not isinstance(found, Skipped)]


def _passed_over(*paths: Path) -> list[tuple[str, str]]:
    return [(found.name, found.reason) for found in sources.find_sources(list(paths)) if isinstance(found, Skipped)]


def _sentence(path: Path) -> str:
    """Why nothing can be read there."""
    (found,) = (found for found in sources.find_sources([path]) if not isinstance(found, Skipped))
    assert isinstance(found, Unreadable)
    return found.reason


def _bytes(path: Path) -> list[bytes]:
    found = []
    for source in sources.find_sources([path]):
        if isinstance(source, Skipped):
            continue
        assert isinstance(source, Source)
        with sources.open_source(source) as stream:
            found.append(stream.read())
    return found


def _read(source: Source) -> list[bytes]:
    with sources.open_source(source) as stream:
        return [stream.read()]


def test_a_file_is_read_whatever_its_name_and_its_packing(tmp_path: Path) -> None:
    for name in ("store_status.csv", "Menu hours.CSV", "bq-results-20230125.csv", "odd name.txt", "-", "é,1.csv"):
        path = put(tmp_path / name, POLL)
        assert _bytes(path) == [POLL]
        assert _names(path) == [str(path)]
    assert _bytes(put(tmp_path / "a.csv.gz", gz(POLL))) == [POLL]
    assert _bytes(put(tmp_path / "B.CSV.GZ", gz(POLL) + gz(ZONE))) == [POLL + ZONE]


def test_a_folder_is_searched_in_name_order_and_not_below(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "C.CSV", "c.zip", "10.csv", "2.csv"):
        put(tmp_path / name, POLL)
    put_zip(tmp_path / "c.zip", {"x.csv": POLL})
    put(tmp_path / "notes.txt", b"polls of January")
    for name in (".hidden.csv", "._b.csv", "a.csv.bak", "below/d.csv", "csv", "a.gz"):
        put(tmp_path / name, POLL)
    (tmp_path / "folder.csv").mkdir()
    assert _names(tmp_path) == ["10.csv", "2.csv", "C.CSV", "a.csv.gz", "b.csv", "c.zip/x.csv"]
    unnamed, folder = (
        "no workbook, and not named *.csv, *.csv.gz, *.csv.zst or *.zip",
        "a folder; folders inside a folder are not searched",
    )
    assert _passed_over(tmp_path) == [
        ("a.gz", unnamed), ("a.csv.bak", unnamed), ("below", folder), ("csv", unnamed), ("folder.csv", folder),
        ("notes.txt", "it does not begin with the header of a feed"),
    ]  # fmt: skip


def test_what_is_passed_over_in_a_folder_has_a_reason(tmp_path: Path) -> None:
    put(tmp_path / "polls.csv", POLL)
    names = (
        "hours.numbers", "~$hours.xlsx", "zones.tsv", "timezones.csv.download", "timezones.csv (1)", "polls.json", "all.tar.gz",
        "README.md", "readme", "LICENSE", "Thumbs.db", "desktop.ini", ".gitkeep", ".DS_Store",
    )  # fmt: skip
    for name in names:
        put(tmp_path / name, b"x")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    unnamed = "no workbook, and not named *.csv, *.csv.gz, *.csv.zst or *.zip"
    assert _names(tmp_path) == ["polls.csv"]
    assert dict(_passed_over(tmp_path)) == {
        "hours.numbers": "a workbook of Numbers; save it as CSV",
        "zones.tsv": "it does not begin with the header of a feed",
        "timezones.csv.download": unnamed,
        "timezones.csv (1)": unnamed,
        "polls.json": "JSON is taken over HTTP and from standard input only",
        "all.tar.gz": "an archive of another kind; unpack it first",
        "gone.csv": "a link that leads nowhere",
        "pipe.csv": "neither a file nor a folder",
    }


def test_links_are_read_only_where_they_stay_in_the_folder(tmp_path: Path) -> None:
    secret, folder = put(tmp_path / "secret.csv", POLL), tmp_path / "data"
    put(tmp_path / "data-beside" / "polls.csv", POLL)
    # As Kubernetes mounts a ConfigMap: the files are links into a folder that is changed as a whole.
    put(folder / "..2024_10_14" / "polls.csv", POLL)
    (folder / "..data").symlink_to("..2024_10_14")
    (folder / "polls.csv").symlink_to("..data/polls.csv")
    (folder / "copy.csv").symlink_to(folder / "polls.csv")
    (folder / "out.csv").symlink_to(secret)
    (folder / "out.zip").symlink_to("../secret.csv")
    (folder / "beside.csv").symlink_to("../data-beside/polls.csv")
    (folder / "by.csv").symlink_to("elsewhere/polls.csv")
    (folder / "elsewhere").symlink_to(tmp_path / "data-beside")
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "terminal.csv").symlink_to("/dev/tty")
    out = "a link that leads out of the folder; copy the file there, or name it itself"
    expected = {
        **dict.fromkeys(("out.csv", "out.zip", "beside.csv", "by.csv", "elsewhere", "terminal.csv"), out),
        "loop.csv": "a link that leads nowhere",
    }
    (tmp_path / "named").symlink_to(folder)
    for named in (folder, tmp_path / "named"):
        assert _names(named) == ["copy.csv", "polls.csv"]
        assert dict(_passed_over(named)) == expected
        assert [
            data for source in sources.find_sources([named]) if isinstance(source, Source) for data in _read(source)
        ] == [
            POLL,
            POLL,
        ]
    assert _names(folder / "out.csv") == [str(folder / "out.csv")]
    assert _bytes(folder / "out.csv") == [POLL]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_became_a_link_or_a_pipe_since_the_folder_was_searched_is_not_read(tmp_path: Path, kind: str) -> None:
    secret, file = put(tmp_path / "secret.csv", POLL), put(tmp_path / "data" / "polls.csv", POLL)
    (source,) = sources.find_sources([tmp_path / "data"])
    assert isinstance(source, Source)
    file.unlink()
    if kind == "link":
        file.symlink_to(secret)
    else:
        os.mkfifo(file)
    with pytest.raises(DataError, match="leads out of the folder" if kind == "link" else "neither a file nor a folder"):
        _read(source)


def test_no_text_of_a_file_that_is_no_feed_is_stored(tmp_path: Path, database: Database) -> None:
    load(database, put(tmp_path / "good.csv", POLL))
    secrets = (
        b"root:x:0:0\nhunter2,hunter3\n", b"store_id,hunter2\n", b"store_id,timestamp_utc,status,STATUS,hunter2\n",
        b"store_id,timestamp_utc,"
            b"status,timezone,hunter2\n", b"hunter2;store_id\n", b'"hunter2\n', b"hunter2\0", b"\xff\xfehunter2",
        b"hunter2" * 200_000, b"hunter2,\xff\n", b"hunter2" + b"," * 100_000,
    )  # fmt: skip
    for number, secret in enumerate(secrets):
        path = put(tmp_path / "bad" / f"{number}.csv", secret)
        put(tmp_path / "bad" / f"{number}.csv.gz", gz(secret))
        put(tmp_path / "bad" / f"hidden{number}.csv.gz", secret)
        put_zip(tmp_path / "bad" / f"{number}.zip", {"a.csv": secret, "b.csv.gz": secret})
        put(tmp_path / "bad" / f"no{number}.zip", secret)
        assert load(database, path).files[0].error
    assert load(database, tmp_path / "bad").failed
    stored = [
        row
        for (table,) in query(database.path, "SELECT name FROM sqlite_master WHERE type = 'table'")
        for row in query(database.path, f"SELECT * FROM {table}")
    ]
    assert [row for row in stored if "hunter" in repr(row) or "root:" in repr(row)] == []
    sentence = query(database.path, "SELECT error FROM load_file WHERE file LIKE '%/0.csv'")[0][0]
    assert sentence.startswith(
        "the header fits no feed: it has 1 column, of which storemon knows none; expected one of polls: "
    )


@pytest.mark.parametrize(
    "names",
    [
        ["h.csv", "h (1).csv", "h (2).csv", "h (10).csv", "i.csv"],
        ["h.csv", "h(1).csv", "h(2).csv", "h(10).csv", "h-b.csv.bak"],
        ["h.csv", "h - Copy.csv", "h - Copy (2).csv"],
        ["h.csv", "h copy.csv", "h copy 2.csv", "h copy 10.csv"],
        ["h.csv", "h (copy).csv", "h (another copy).csv", "h (3rd copy).csv"],
        ["h.csv.gz", "h (1).csv.gz", "h (2).csv"],
        ["H.CSV", "H (1).CSV", "h.csv", "h (1).csv"],
        ["a-1.csv", "a-2.csv", "a.csv", "a_10.csv", "a_2.csv"],
    ],
)
def test_a_second_copy_sorts_after_the_first(tmp_path: Path, names: list[str]) -> None:
    for name in reversed(names):
        put(tmp_path / "folder" / name, gz(POLL) if name.endswith("gz") else POLL)
    assert _names(tmp_path / "folder") == [name for name in names if not name.endswith("bak")]
    inside = {f"deep/{name}": gz(POLL) if name.endswith("gz") else POLL for name in reversed(names)}
    path = put_zip(tmp_path / "all.zip", inside)
    assert _names(path) == [f"{path}/deep/{name}" for name in names if not name.endswith("bak")]


def test_paths_are_taken_in_the_order_given(tmp_path: Path) -> None:
    b, a = put(tmp_path / "b.csv", POLL), put(tmp_path / "a.csv", POLL)
    put(tmp_path / "folder" / "c.csv", POLL)
    assert _names(b, tmp_path / "folder", a, b) == [str(b), "c.csv", str(a), str(b)]


def test_a_zip_gives_its_csvs_in_name_order_without_what_macos_adds(tmp_path: Path) -> None:
    path = put_zip(
        tmp_path / "export.zip",
        {
            "z.csv": POLL,
            "deep/er/a.csv": ZONE,
            "deep/b.CSV.GZ": gz(POLL),
            "__MACOSX/._z.csv": b"\0\5\x16\7",
            "deep/__MACOSX/a.csv": b"\0",
            ".hidden.csv": b"\0",
            "deep/._a.csv": b"\0",
            "readme.txt": b"hello",
            "inner.zip": b"PK",
        },
    )
    assert _names(path) == [f"{path}/deep/b.CSV.GZ", f"{path}/deep/er/a.csv", f"{path}/z.csv"]
    assert _passed_over(path) == [(f"{path}/inner.zip", "a zip inside a zip; unpack it first")]
    assert _bytes(path) == [POLL, ZONE, POLL]


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_is_read_whatever_its_compression(tmp_path: Path, how: int) -> None:
    assert _bytes(put_zip(tmp_path / "a.zip", {"a.csv": POLL, "b.csv.gz": gz(ZONE)}, how)) == [POLL, ZONE]


def test_a_gz_inside_a_zip_is_loaded_and_so_is_the_rest(tmp_path: Path, database: Database) -> None:
    path = put_zip(
        tmp_path / "all.zip",
        {"status.csv.gz": gz(POLL), "hours.csv": csv(HOURS, "s,0,09:00,17:00"), "z/zones.csv": b"\xef\xbb\xbf" + ZONE},
    )
    result = load(database, path)
    assert [(summary.file, summary.feed, counts(summary)) for summary in result.files] == [
        (f"{path}/hours.csv", "hours", (1, 1, 0, 0, 0, 0)),
        (f"{path}/status.csv.gz", "polls", (1, 1, 0, 0, 0, 0)),
        (f"{path}/z/zones.csv", "timezones", (1, 1, 0, 0, 0, 0)),
    ]
    assert not result.failed


def test_what_is_not_there_or_is_nothing_to_read_says_so(tmp_path: Path) -> None:
    missing, empty, only_text = tmp_path / "missing.csv", tmp_path / "empty", tmp_path / "text"
    empty.mkdir()
    put(only_text / "notes.txt", b"polls of January\n")
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    assert _sentence(missing) == f"{missing} does not exist"
    assert _sentence(empty) == f"{empty} holds no workbook and no file named *.csv, *.csv.gz, *.csv.zst or *.zip"
    assert (
        _sentence(only_text) == f"{only_text} holds no workbook and no file named *.csv, *.csv.gz, *.csv.zst or *.zip"
    )
    assert _sentence(pipe) == f"{pipe} is neither a file nor a folder"
    assert "is not a zip that can be read" in _sentence(put(tmp_path / "a.zip", b"no zip at all"))
    assert "is not a zip that can be read" in _sentence(put(tmp_path / "b.zip", b""))
    assert _sentence(put_zip(tmp_path / "c.zip", {"a.txt": b"x"})).endswith(
        "holds no workbook and no file named *.csv, *.csv.gz or *.csv.zst"
    )


def test_one_bad_path_does_not_keep_the_others_from_loading(tmp_path: Path, database: Database) -> None:
    good = put(tmp_path / "good.csv", POLL)
    result = load(database, tmp_path / "missing.csv", good, put(tmp_path / "bad.zip", b"PK"))
    assert [bool(summary.error) for summary in result.files] == [True, False, True]
    assert result.failed
    assert query(database.path, "SELECT count(*) FROM poll") == [(1,)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything: a folder without permission cannot be had")
def test_a_file_or_folder_without_permission_says_so(tmp_path: Path) -> None:
    folder, file = tmp_path / "shut", put(tmp_path / "shut.csv", POLL)
    folder.mkdir(mode=0o000)
    file.chmod(0o000)
    assert _sentence(folder) == f"{folder} cannot be read: Permission denied"
    assert _sentence(file) == f"{file} cannot be read: permission denied"


def test_a_folder_that_the_system_refuses_to_list_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    assert _sentence(tmp_path) == f"{tmp_path} cannot be read: Permission denied"


def _rows(count: int) -> bytes:
    chance = random.Random(5)
    return csv(POLLS, *(f"s{chance.randrange(10**9)},2023-01-22 10:00:00,active" for _ in range(count)))


def _drain(source: Source) -> None:
    with sources.open_source(source) as stream:
        while stream.read(1 << 16):
            pass


def _read_error(path: Path) -> str:
    (source,) = sources.find_sources([path])
    assert isinstance(source, Source)
    with pytest.raises(DataError) as bad:
        _drain(source)
    return bad.value.message


def test_a_gz_that_is_cut_short_or_is_none_is_damaged(tmp_path: Path) -> None:
    whole = gz(_rows(5_000))
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "without its end": whole[:-3],
        "with something behind it": whole + b"garbage",
        "flipped": bytes(broken),
    }.items():
        path = put(tmp_path / f"{name}.csv.gz", data)
        assert _read_error(path).startswith(f"{path} is damaged or cut short ("), name


def _flipped_member(path: Path, how: int) -> Path:
    """A zip whose member's bytes are damaged in the middle."""
    put_zip(path, {"a.csv": _rows(3_000)}, how)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    return put(path, bytes(data))


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_is_a_sentence_whatever_its_compression(tmp_path: Path, how: int) -> None:
    path = _flipped_member(tmp_path / "a.zip", how)
    sentence = _read_error(path)
    assert f"{path}/a.csv" in sentence
    assert "Traceback" not in sentence


def test_a_zip_with_one_bad_member_loads_the_others(tmp_path: Path, database: Database) -> None:
    path = put_zip(tmp_path / "a.zip", {"1.csv": POLL, "2.csv": _rows(2_000), "3.csv": ZONE})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("2.csv").header_offset + 30 + len("2.csv")
    data[at + 2_000 : at + 2_010] = b"\xff" * 10
    put(path, bytes(data))
    result = load(database, path)
    assert [bool(summary.error) for summary in result.files] == [False, True, False]
    assert "2.csv is damaged or cut short" in result.files[1].error
    assert query(database.path, "SELECT store_id FROM poll") == [("s",)]
    assert query(database.path, "SELECT name FROM timezone") == [("UTC",)]


def test_a_member_whose_own_header_is_damaged_is_damaged(tmp_path: Path) -> None:
    path = put_zip(tmp_path / "a.zip", {"a.csv": POLL})
    data = bytearray(path.read_bytes())
    data[0:4] = b"XXXX"
    assert "is damaged or cut short" in _read_error(put(path, bytes(data)))


def test_what_something_is_its_content_says_and_not_its_name(tmp_path: Path) -> None:
    zipped = put_zip(tmp_path / "made", {"gz named.csv": gz(ZONE), "plain.csv.gz": POLL}).read_bytes()
    for name, data, expected in (
        ("a.csv", gz(POLL), [POLL]),
        ("a.zip", gz(POLL), [POLL]),
        ("a.csv.gz", POLL, [POLL]),
        ("b.zip", POLL, [POLL]),
        ("b.csv", zipped, [ZONE, POLL]),
        ("c.csv.gz", zipped, [ZONE, POLL]),
        ("store status.dat", zipped, [ZONE, POLL]),
    ):
        path = put(tmp_path / "one" / name, data)
        assert _bytes(path) == expected, name
        uploaded = sources.upload_sources([(name, io.BytesIO(data))], 1 << 20)
        assert [read for item in uploaded if isinstance(item, Source) for read in _read(item)] == expected, name
    assert _bytes(tmp_path / "one") == [POLL, POLL, POLL, ZONE, POLL, POLL, ZONE, POLL]
    inside = put_zip(tmp_path / "a zip.zip", {"inner.csv": zipped})
    assert _read_error(inside) == f"{inside}/inner.csv is a zip inside a zip; unpack it first"


def test_a_text_that_begins_with_the_header_of_a_feed_is_read(tmp_path: Path) -> None:
    texts = {
        "polls.txt": POLL,
        "Hours.TSV": csv(HOURS, "s,0,9:00,17:00"),
        "zones.txt.gz": gz(ZONE),
        "notes.txt": b"store_id of all shops\n",
        "empty.tsv": b"",
        "readme.txt": ZONE,
        "bomb.txt.gz": gz(b"\n" * 5_000_000 + ZONE),
        "bad.txt.gz": gz(POLL)[:30],
    }
    for name, data in texts.items():
        put(tmp_path / "folder" / name, data)
    zipped = put_zip(tmp_path / "all.zip", texts)
    (tmp_path / "folder" / "out.txt").symlink_to(put(tmp_path / "out.txt", POLL))
    why = "it does not begin with the header of a feed"
    for path, before in ((tmp_path / "folder", ""), (zipped, f"{zipped}/")):
        assert _names(path) == [before + name for name in ("Hours.TSV", "polls.txt", "zones.txt.gz")]
        assert _bytes(path) == [texts["Hours.TSV"], POLL, ZONE]
        others = [(before + name, why) for name in ("bad.txt.gz", "bomb.txt.gz", "empty.tsv", "notes.txt")]
        assert [passed for passed in _passed_over(path) if "out.txt" not in passed[0]] == others


def test_zstd_is_read_where_python_can(tmp_path: Path) -> None:
    path = put(tmp_path / "polls.csv.zst", b"\x28\xb5\x2f\xfd\0\0")
    if sys.version_info < (3, 14):
        (source,) = sources.find_sources([path])
        assert isinstance(source, Source)
        with pytest.raises(DataError, match=r"polls\.csv\.zst is compressed by zstd, .* Python 3\.14 or newer"):
            _drain(source)
        return
    zstd = importlib.import_module("compression.zstd")
    assert "is damaged or cut short" in _read_error(path)
    assert _bytes(put(path, zstd.compress(POLL) + zstd.compress(ZONE))) == [POLL + ZONE]
    assert "is damaged or cut short" in _read_error(put(path, zstd.compress(_rows(5_000))[:-20]))
    assert _bytes(put_zip(tmp_path / "a.zip", {"a.csv.zst": zstd.compress(ZONE)})) == [ZONE]


def test_an_encrypted_member_is_a_sentence(tmp_path: Path) -> None:
    path = put_zip(tmp_path / "a.zip", {"a.csv": POLL})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    assert "encrypted" in _read_error(put(path, bytes(data)))


def test_a_zip_made_for_a_newer_unzip_is_a_sentence(tmp_path: Path) -> None:
    path = put_zip(tmp_path / "a.zip", {"a.csv": POLL})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 6] = 99
    assert "is not a zip that can be read" in _sentence(put(path, bytes(data)))
