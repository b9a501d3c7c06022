"""Decoders of gzip and of members of zips: the same bytes as Python's own, in bounded steps, and sentences for what is
wrong.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import random
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_helpers import POLLS, Cut, csv, put, put_zip

from storemon_flask.errors import DataError, TooLarge
from storemon_flask.feeds import archives, sources
from storemon_flask.feeds.archives import Allowance, Gunzip
from storemon_flask.feeds.sources import Skipped, Source, Unreadable

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
POLL = csv(POLLS, "s,2023-01-22 10:00:00,active")
MB = 1_000_000


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def member(archive: bytes, number: int = 0, name: str = "a.csv") -> Any:
    """The stream of a zip's member, by its place in the list."""
    file = io.BytesIO(archive)
    entry = archives.ZipLists().read(file)[number]
    return archives.open_member(lambda: file, entry, name, None)


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", how) as made:
        for name, data in members:
            # The warning of a second member of one name.
            made.writestr(zipfile.ZipInfo(name), data, how) if name not in made.namelist() else twice(
                made, name, data, how
            )
    return archive.getvalue()


def twice(made: zipfile.ZipFile, name: str, data: bytes, how: int) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr(zipfile.ZipInfo(name), data, how)


def steps(stream: Any, sizes: list[int]) -> bytes:
    found, turn = b"", 0
    while chunk := stream.read(sizes[turn % len(sizes)]):
        assert len(chunk) <= sizes[turn % len(sizes)]
        found += chunk
        turn += 1
    assert stream.read(7) == b""
    return found


CONTENTS = [b"", b"x", b"0" * 300_000, noise(100_000), noise(5) * 30_000, POLL]


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("content", CONTENTS)
def test_a_member_is_read_whole_in_steps_of_any_size(how: int, content: bytes) -> None:
    archive = zipped(("a.csv", content), how=how)
    for sizes in ([1 << 22], [70_000, 3], [len(content) + 1], [16_384]):
        assert steps(member(archive), sizes) == content
    assert member(archive).read() == content


@given(
    st.lists(st.binary(max_size=3000), max_size=5),
    st.lists(st.integers(1, 4000), min_size=1, max_size=5),
    st.integers(0, 900),
)
def test_gzip_members_follow_each_other(contents: list[bytes], sizes: list[int], zeros: int) -> None:
    data = b"".join(
        gzip.compress(content, 1) + b"\0" * (zeros * (number % 2)) for number, content in enumerate(contents)
    )
    for stream in (io.BytesIO(data), Cut(data, sizes)):
        assert steps(Gunzip(cast(IO[bytes], stream)), sizes) == b"".join(contents)


def test_a_long_gzip_is_read_in_pieces_and_says_how_far_it_is() -> None:
    content = noise(3_000_000) + b"0" * 20_000_000
    data = gzip.compress(content, 1)
    stream = Gunzip(io.BytesIO(data))
    assert stream.read(1_000_000) == content[:1_000_000]
    assert abs(stream.consumed - 1_000_000) < 100_000
    assert stream.read() == content[1_000_000:]
    assert stream.consumed == len(data)


def lzma_member(content: bytes, dictionary: int, size: int | None = None) -> bytes:
    """A zip with a member whose LZMA header asks for a dictionary of that size."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16}]
    raw = lzma.compress(content, lzma.FORMAT_RAW, filters=filters)
    data = b"\x09\x04" + struct.pack("<HBI", 5, 93, dictionary) + raw
    return one_member(zipfile.ZIP_LZMA, data, zlib.crc32(content), len(content) if size is None else size)


def one_member(how: int, data: bytes, crc: int, size: int, flags: int = 0, name: bytes = b"a.csv") -> bytes:
    """A zip of one member, with whatever it says of itself."""
    common = struct.pack("<HHHHHIIIHH", 20, flags, how, 0, 0, crc, len(data), size, len(name), 0)
    local = b"PK\3\4" + common + name + data
    central = b"PK\1\2\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def test_lzma_takes_no_larger_dictionary_than_its_content() -> None:
    assert member(lzma_member(POLL, 0xFFFFFFFF)).read() == POLL
    with pytest.raises(
        DataError, match="takes 4,295 MB of memory to unpack, and at most 67 MB are allowed; unpack it first"
    ):
        member(lzma_member(POLL, 0xFFFFFFFF, 0xFFFFFFFE))


def read_by_allowance(source: Source) -> None:
    assert source.allowance is not None
    with sources.open_source(source) as stream:
        while chunk := stream.read(100_000):
            source.allowance.take(source.name, len(chunk))


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "deflate": lambda data: zipped(("a.csv", data)),
    "bzip2": lambda data: zipped(("a.csv", data), how=zipfile.ZIP_BZIP2),
    "lzma": lambda data: zipped(("a.csv", data), how=zipfile.ZIP_LZMA),
    "gzip": lambda data: zipped(("a.csv.gz", gzip.compress(data)), how=zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_is_asked_for_is_all_that_is_decoded(kind: str) -> None:
    archive = BOMBS[kind](b"0" * 60_000_000)
    assert len(archive) < 70_000
    stream = member(archive)
    tracemalloc.start()
    try:
        assert stream.read(1 << 20) == b"0" * (1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", BOMBS)
def test_what_comes_out_of_all_members_of_a_zip_counts(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "a.zip", BOMBS[kind](b"0" * 3_000_000))
    (source,) = sources.find_sources([tmp_path / "a.zip"], 2 * MB)
    assert isinstance(source, Source)
    sentence = (
        "is larger, unpacked, than the 2 MB that STOREMON_MAX_BODY_MB allows "
        "of one compressed file; set it higher, or unpack the file first"
    )
    with pytest.raises(TooLarge, match=sentence):
        read_by_allowance(source)


def test_what_is_decoded_only_to_be_decoded_again_counts_too(tmp_path: Path) -> None:
    thin = gzip.compress(b"x") * 150_000
    assert len(thin) > 3 * MB
    path = put_zip(tmp_path / "a.zip", {"a.csv.gz": thin})
    assert path.stat().st_size < 50_000
    (source,) = sources.find_sources([path], 2 * MB)
    assert isinstance(source, Source)
    with sources.open_source(source) as stream, pytest.raises(TooLarge, match="larger, unpacked, than the 2 MB"):
        stream.read()
    body = sources.body_source(io.BytesIO(gzip.compress(thin)), 1, "text/csv", "polls", True, 2 * MB)
    with sources.open_source(body) as stream:
        inner, _, _ = sources.detect_format(stream, "", body.allowance)
        with pytest.raises(TooLarge, match="body is larger, unpacked, than the 2 MB"):
            inner.read()


HOLLOW = {
    "empty members": gzip.compress(b"") * 220_000,
    "empty blocks": gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 900_000,
    "a long name": b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 4_500_000,
}


@pytest.mark.parametrize("kind", HOLLOW)
def test_what_nothing_comes_out_of_is_not_read_to_its_end(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO(HOLLOW[kind] + gzip.compress(POLL))
    gunzip = Gunzip(stream)
    with pytest.raises(zipfile.BadZipFile, match="nothing comes out of 4 MB of it"):
        gunzip.read(1)
    assert stream.tell() < 4_300_000
    path = put(tmp_path / "a.csv.gz", HOLLOW[kind])
    (source,) = sources.find_sources([path])
    assert isinstance(source, Source)
    with (
        pytest.raises(DataError, match=r"is damaged or cut short \(nothing comes out of 4 MB of it\)"),
        sources.open_source(source) as opened,
    ):
        opened.read(1)


def test_a_read_of_what_little_comes_out_of_ends_early() -> None:
    thin = (gzip.compress(b"") * 100_000 + gzip.compress(b"\n")) * 6
    stream = Gunzip(io.BytesIO(thin))
    sizes = []
    while chunk := stream.read(1 << 22):
        sizes.append(len(chunk))
    assert sum(sizes) == 6
    assert len(sizes) > 1


def test_a_gzip_that_holds_itself_is_not_followed() -> None:
    data = POLL
    for _ in range(2):
        data = gzip.compress(data)
    assert sources.detect_format(io.BytesIO(data), "")[0].read() == POLL
    with pytest.raises(DataError, match="compressed again and again; unpack it first"):
        sources.detect_format(io.BytesIO(gzip.compress(data)), "")


def test_each_member_is_read_by_its_entry_also_when_names_are_equal(tmp_path: Path) -> None:
    other = csv(POLLS, "t,2023-01-22 10:00:00,active")
    put(tmp_path / "a.zip", zipped(("a.csv", POLL), ("b.csv", b"b"), ("a.csv", other), ("a.csv", b"")))
    found = sources.find_sources([tmp_path / "a.zip"])
    assert [one.name.rpartition("/")[2] for one in found] == ["a.csv", "a.csv (2)", "a.csv (3)", "b.csv"]
    contents = []
    for one in found:
        assert isinstance(one, Source)
        with sources.open_source(one) as stream:
            contents.append(stream.read())
    assert contents == [POLL, other, b"", b"b"]


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        (one_member(0, POLL, zlib.crc32(POLL), len(POLL) + 5), "it ends too early"),
        (one_member(8, zlib.compress(POLL)[2:-4], zlib.crc32(POLL), len(POLL) + 5), "it is shorter than the list says"),
        (one_member(0, POLL, zlib.crc32(POLL), len(POLL) - 5), "its checksum is not that of the list"),
        (one_member(8, zlib.compress(b"0" * 10**6)[2:-4], 1, 5), "its checksum is not that of the list"),
        (one_member(8, zlib.compress(POLL)[2:-9], zlib.crc32(POLL), len(POLL)), "it ends too early"),
        (one_member(8, b"\xff" * 50, 1, 50), "Error -3"),
        (one_member(12, b"BZh9" + b"\xff" * 50, 1, 50), "Invalid data stream"),
        (one_member(12, bz2.compress(POLL)[:-9], zlib.crc32(POLL), len(POLL) + 1), "it ends too early"),
        (one_member(14, b"\xff" * 50, 1, 50), "it does not begin as LZMA does"),
        (one_member(14, b"\x09\x04\x05\0\xe0" + b"\xff" * 50, 1, 50), ""),
        (one_member(14, b"\x09", 1, 50), "it does not begin as LZMA does"),
        (one_member(9, POLL, 1, 50), "is compressed by Deflate64, as Windows does with large files; unpack it first"),
        (one_member(97, POLL, 1, 50), "is compressed by method 97, which is not read; unpack it first"),
        (one_member(0, POLL, 1, 50, flags=1), "is encrypted; unpack it first"),
        (one_member(0, b"", 0, 0, name=b"a.csv.gz"), None),
    ],
)
def test_a_member_that_says_something_else_of_itself_is_a_sentence(
    tmp_path: Path, archive: bytes, says: str | None
) -> None:
    (source,) = sources.find_sources([put(tmp_path / "a.zip", archive)])
    assert isinstance(source, Source)
    if says is None:
        with sources.open_source(source) as stream:
            assert stream.read() == b""
        return
    with pytest.raises(DataError) as error, sources.open_source(source) as stream:
        stream.read()
    assert says in error.value.message
    assert source.name in error.value.message


@pytest.mark.parametrize("how", METHODS)
def test_zips_of_streams_and_of_more_than_four_gigabytes_are_read(tmp_path: Path, how: int) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    streamed, large = Pipe(), io.BytesIO()
    with zipfile.ZipFile(streamed, "w", how) as made:
        # Length and checksum follow the content.
        made.writestr("a.csv", POLL)
        made.writestr("b.csv", POLL * 2)
    with zipfile.ZipFile(large, "w", how) as made, made.open("a.csv", "w", force_zip64=True) as written:
        written.write(POLL)
    for data, expected in (
        (streamed.getvalue(), [POLL, POLL * 2]),
        (large.getvalue(), [POLL]),
        (b"#!/bin/sh\n" + large.getvalue() + b"", [POLL]),
    ):
        found = sources.find_sources([put(tmp_path / "a.zip", data)])
        assert [_content(one) for one in found] == expected


def _content(found: Any) -> bytes:
    with sources.open_source(found) as stream:
        return cast(bytes, stream.read())


def test_a_member_without_a_name_is_none(tmp_path: Path) -> None:
    for name in (b"", b"\0a.csv", b"/", b"."):
        (found,) = sources.find_sources(
            [put(tmp_path / "a.zip", one_member(0, POLL, zlib.crc32(POLL), len(POLL), name=name))]
        )
        assert isinstance(found, Unreadable)
        assert found.reason.endswith("holds no workbook and no file named *.csv, *.csv.gz or *.csv.zst")


def test_what_does_not_fit_keeps_no_smaller_file_out() -> None:
    archive = zipped(("a.csv", POLL), ("b.csv", b"x" * 3 * MB), ("c.csv", POLL))
    first, large, last = sources.upload_sources([("a.zip", io.BytesIO(archive))], 2 * MB)
    assert (_content(first), _content(last)) == (POLL, POLL)
    with pytest.raises(TooLarge, match=r"a\.zip/b\.csv is larger, unpacked"):
        _content(large)


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    whole = zipped(("a.csv", POLL), ("b.csv", POLL), how=zipfile.ZIP_STORED)
    first, second = whole.index(b"PK\1\2"), whole.rindex(b"PK\1\2")
    both = bytearray(whole)
    # The first member reaches into the second; then both entries are of the same.
    both[first + 20 : first + 24] = struct.pack("<I", len(POLL) + 40)
    same = bytearray(whole)
    same[second + 42 : second + 46] = struct.pack("<I", 0)
    for data in (both, same):
        (found,) = sources.find_sources([put(tmp_path / "a.zip", bytes(data))])
        assert isinstance(found, Unreadable)
        assert found.reason.endswith("is not a zip that can be read (its members overlap)")


def test_a_list_that_is_said_to_be_gigabytes_is_not_read(tmp_path: Path) -> None:
    whole = bytearray(zipped(("a.csv", POLL)) + b"\0" * (5 << 20))
    end = whole.index(b"PK\5\6")
    record = whole[end : end + 22]
    record[12:16] = struct.pack("<I", (5 << 20) - 100)
    (found,) = sources.find_sources([put(tmp_path / "a.zip", bytes(whole + record))])
    assert isinstance(found, Unreadable)
    assert (
        "the zips of one load may list at most 10,000 members of any kind, in 4 MB; load them in several parts"
        in found.reason
    )


@pytest.mark.parametrize("at", range(22))
def test_no_damage_of_a_list_is_more_than_a_sentence(tmp_path: Path, at: int) -> None:
    whole = zipped(("a.csv", POLL), ("b.csv", POLL))
    for part in (whole.index(b"PK\5\6"), whole.index(b"PK\1\2"), whole.index(b"PK\1\2") + 22, 0, 10):
        for value in (0, 1, 0x7F, 0xFF):
            data = bytearray(whole)
            data[part + at] = value
            for found in sources.find_sources([put(tmp_path / "a.zip", bytes(data))]):
                if isinstance(found, Source):
                    with contextlib.suppress(DataError), sources.open_source(found) as stream:
                        stream.read()


@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_a_zip_of_too_many_members_is_a_sentence(tmp_path: Path, ending: str) -> None:
    count = 1_001 if ending == "csv" else 10_001
    path = put(tmp_path / "a.zip", zipped_names(f"{number}.{ending}" for number in range(count)))
    put(tmp_path / "b.csv", POLL)
    found = [one for one in sources.find_sources([tmp_path]) if not isinstance(one, Skipped)]
    assert [one.name for one in found] == ["a.zip", "b.csv"]
    assert isinstance(found[0], Unreadable)
    assert (
        found[0].reason
        == {
            "csv": f"{path} holds 1,001 files, and one load takes at most 1,000;"
            f" load them in several parts, or join files of one feed: "
            "a file may have any number of rows",
            "txt": f"{path}: the zips of one load may list at most 10,000 members "
            f"of any kind, in 4 MB; load them in several parts, or without "
            "what is no CSV",
        }[ending]
    )


def zipped_names(names: Any) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for name in names:
            made.writestr(zipfile.ZipInfo(name), b"")
    return archive.getvalue()


def test_names_that_are_hard_to_sort_take_no_time(tmp_path: Path) -> None:
    names = [" (1)" * 16_000 + "x.csv", " copy" * 12_000 + "x.csv", "h - Copy (2).csv", "h.csv"]
    began = time.process_time()
    found = sources.find_sources([put(tmp_path / "a.zip", zipped_names(names))])
    assert time.process_time() - began < 2
    assert [one.name.rpartition("/")[2][-20:] for one in found][-2:] == ["h.csv", "h - Copy (2).csv"]


def test_all_zips_and_files_of_a_load_count_together(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path / f"{number}.zip", zipped_names(f"{number}.csv" for number in range(250)))
    assert len(sources.find_sources([tmp_path])) == 1_000
    with pytest.raises(
        TooLarge, match="there are more than 1,000 files, those in zips among them, and one load takes at most 1,000"
    ):
        sources.find_sources([tmp_path, put(tmp_path / "b.csv", POLL)])
    sent = [
        (f"{number}.zip", io.BytesIO(zipped_names(f"{number}.txt" for number in range(4_000)))) for number in range(4)
    ]
    found = sources.upload_sources(sent, MB)
    assert [one.name for one in found if isinstance(one, Unreadable)] == [f"{number}.zip" for number in range(4)]
    last = found[-1]
    assert isinstance(last, Unreadable)
    assert last.reason.startswith(
        "3.zip: the zips of one load may list at most 10,000 members of any kind, in 4 MB; load them"
    )


def test_an_allowance_that_is_used_up_stays_so() -> None:
    allowance = Allowance(5 * MB, "here")
    allowance.take("a", 5 * MB)
    for size in (1, 1):
        with pytest.raises(
            TooLarge, match="b is larger, unpacked, than the 5 MB that STOREMON_MAX_BODY_MB allows here"
        ):
            allowance.take("b", size)
    allowance.intermediate.take("c", 5 * MB)
    with (
        pytest.raises(TooLarge, match="d is larger"),
        sources.open_source(Source("d", 1, io.BytesIO, allowance=allowance)),
    ):
        pass
