"""`storemon restore`: a checked backup in the database's place, the old one kept."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from conftest import STOREMON, Server, environment, sql, storemon
from restore_helpers import KEPT, NOW_US, content
from restore_helpers import backup as backup

from database.test_backup import dump
from storemon_flask.database import backup as copies
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings


def version(file: Path) -> tuple[int, int]:
    found: tuple[int, int] = sql(file, "SELECT version, schedule FROM data_version")[0]  # type: ignore[assignment]
    return found


def test_a_restore_puts_the_backup_in_place_and_keeps_what_was_there(backup: Path, settings: Settings) -> None:
    present, before = dump(settings.database), version(settings.database)
    done = storemon(settings.home, "restore", str(backup), "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    kept = [file for file in settings.database.parent.iterdir() if ".before-restore-" in file.name]
    assert done.stdout == (f"{settings.database}: 4 stores, 4 polls\nWhat was there before is kept in {kept[0]}\n")
    assert dump(kept[0]) == present
    assert content(settings.database) == content(backup)
    # Equal numbers mean equal data, also after this.
    assert all(
        now > max(old, then) for now, old, then in zip(version(settings.database), before, version(backup), strict=True)
    )


def test_the_kept_database_can_be_restored_in_turn(backup: Path, settings: Settings) -> None:
    before = content(settings.database)
    first = copies.restore(settings.database, backup, NOW_US)
    assert first.kept is not None
    assert first.kept.name == KEPT
    second = copies.restore(settings.database, first.kept, NOW_US)
    assert second.kept is not None
    assert second.kept.name == KEPT + "-2"
    assert content(settings.database) == before


def test_a_restore_where_there_is_no_database_makes_one(backup: Path, settings: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "instance" / "storemon.db"
    assert copies.restore(elsewhere, backup, NOW_US).kept is None
    assert dump(elsewhere) == dump(backup)
    # A log that was left without its database must not become one of this.
    elsewhere.unlink()
    elsewhere.with_name("storemon.db-wal").write_bytes(b"stale" * 10_000)
    copies.restore(elsewhere, backup, NOW_US)
    assert dump(elsewhere) == dump(backup)
    assert sorted(file.name for file in elsewhere.parent.iterdir()) == ["storemon.db"]


def test_a_restore_asks_and_without_somebody_to_answer_refuses(backup: Path, settings: Settings) -> None:
    before = dump(settings.database)
    done = subprocess.run(
        [*STOREMON, "restore", str(backup)],
        env=environment(settings.home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert dump(settings.database) == before


def test_a_restore_is_refused_while_a_server_runs(server: Server, settings: Settings, tmp_path: Path) -> None:
    copies.backup(settings.database, tmp_path / "b.db")
    done = storemon(settings.home, "restore", str(tmp_path / "b.db"), "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"another storemon server (process {server.process.pid}) serves {settings.database}" in done.stderr
    assert server.get("/healthz").status == 200


def test_a_restore_waits_for_other_commands_and_gives_up_in_a_sentence(
    backup: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PATIENCE_S", 0.3)
    before = dump(settings.database)
    with closing(sqlite3.connect(settings.database)) as other:
        other.execute("SELECT count(*) FROM store_record").fetchone()
        with pytest.raises(DatabaseError, match=r"another program still has .* open; nothing was restored"):
            copies.restore(settings.database, backup, NOW_US)
    assert dump(settings.database) == before
    assert [file.name for file in settings.database.parent.iterdir() if "before" in file.name] == []
    copies.restore(settings.database, backup, NOW_US)
    assert content(settings.database) == content(backup)
