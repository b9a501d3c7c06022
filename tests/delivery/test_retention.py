"""How long messages, attempts, notices and incidents are kept."""

from conftest import sql
from delivery_helpers import NOW_US, add_channel, add_message, add_news
from delivery_helpers import prepared as prepared

from storemon_flask.database import incidents, messages
from storemon_flask.database.connections import Database
from storemon_flask.database.messages import Delivery
from storemon_flask.delivery import retention
from storemon_flask.model import DAY_US


def count(database: Database, table: str) -> int:
    ((found,),) = sql(database.path, f"SELECT count(*) FROM {table}")
    return int(found)


def test_old_messages_go_with_what_belongs_to_them(prepared: Database) -> None:
    channel = add_channel(prepared, "webhook", "http://127.0.0.1:9/")
    over, still_open = add_news(prepared, 2, [channel])
    ids = [add_message(prepared, channel, str(number)) for number in range(4)]
    with prepared.write() as connection:
        # The first is about what is over, the second about what is not, the third about nothing; the last one waits.
        connection.execute("UPDATE notice SET message = ? WHERE incident = ?", (ids[0], over))
        connection.execute("UPDATE notice SET message = ? WHERE incident = ?", (ids[1], still_open))
        for one in ids[:3]:
            messages.finish(connection, one, None, NOW_US)
            messages.add_delivery(connection, Delivery(one, channel.id, "incidents", NOW_US, 1, True, 200, "OK"))
        connection.execute(
            "UPDATE incident SET resolved_us = ?, ended_us = ?, outcome = 'over' WHERE id = ?", (NOW_US, NOW_US, over)
        )
    retention.drop_old(prepared, NOW_US + 90 * DAY_US)
    assert (count(prepared, "message"), count(prepared, "delivery"), count(prepared, "incident")) == (4, 3, 2)
    retention.drop_old(prepared, NOW_US + 90 * DAY_US + 1)
    assert sql(prepared.path, "SELECT id FROM message ORDER BY number") == [(ids[1],), (ids[3],)]
    assert sql(prepared.path, "SELECT message FROM delivery") == [(ids[1],)]
    assert sql(prepared.path, "SELECT incident FROM notice") == [(still_open,)]
    assert count(prepared, "incident") == 2
    retention.drop_old(prepared, NOW_US + 400 * DAY_US + 1)
    assert sql(prepared.path, "SELECT id FROM incident") == [(still_open,)]


def test_times_without_sight_are_kept(prepared: Database) -> None:
    add_news(prepared, 3, [])
    with prepared.write() as connection:
        connection.execute("UPDATE incident SET resolved_us = 5, ended_us = 5, since_us = 1, outcome = 'over'")
        connection.execute("UPDATE incident SET kind = 'blind', scope = 'fleet', subject = '' WHERE subject = 's0'")
    retention.drop_old(prepared, NOW_US)
    with prepared.read() as connection:
        assert [one.kind for one in incidents.newest(connection, 10)] == ["blind"]


def test_more_than_a_batch_goes_in_several(prepared: Database) -> None:
    add_news(prepared, 5001, [])
    with prepared.write() as connection:
        connection.execute("UPDATE incident SET resolved_us = 5, ended_us = 5, outcome = 'over'")
    retention.drop_old(prepared, NOW_US, stopped=lambda: True)
    assert count(prepared, "incident") == 5001
    retention.drop_old(prepared, NOW_US)
    assert count(prepared, "incident") == 0


def test_without_a_database_there_is_nothing_to_do(database: Database) -> None:
    retention.drop_old(database, NOW_US)
    assert not database.exists()
