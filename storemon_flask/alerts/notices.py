"""Choose which channels are told of which incidents."""

from collections.abc import Iterable, Iterator, Sequence

from storemon_flask.alerts.evaluation import Key, covers, key_of
from storemon_flask.database.channels import Channel, Filters
from storemon_flask.database.incidents import Incident

# Channel, incident, event.
Notice = tuple[int, int, str]


def opened_notices(incidents: Iterable[Incident], channels: Sequence[Channel]) -> Iterator[Notice]:
    """Yield notices that incidents opened, for each channel that wants them and receives no larger one instead."""
    listening = [channel for channel in channels if channel.disabled_us is None]
    for incident in incidents:
        if incident.details.get("quiet"):
            continue
        group, larger = str(incident.details.get("group", "")), covers(incident)
        for channel in listening:
            receives_it = receives(channel.filters, key_of(incident), group)
            if receives_it and not any(receives(channel.filters, key, group) for key in larger):
                yield channel.id, incident.id, "opened"


def resolved_notices(notified: Iterable[tuple[int, int]], channels: Sequence[Channel]) -> Iterator[Notice]:
    """Yield notices that incidents are over, for each channel that was told that they opened, whatever its filters."""
    listening = {channel.id for channel in channels if channel.disabled_us is None}
    return ((channel, incident, "resolved") for channel, incident in notified if channel in listening)


def receives(filters: Filters, key: Key, group: str) -> bool:
    """Return whether a channel wants to be told of an incident; `group` is that of its store.

    A channel for some groups or stores receives theirs, blindness of the fleet or a zone, and trouble with a feed, but
    neither incidents of other groups nor that many of the fleet are down.
    """
    kind, scope, subject = key
    if filters.kinds and kind not in filters.kinds:
        return False
    if not filters.groups and not filters.stores:
        return True
    if scope == "store":
        return subject in filters.stores or group in filters.groups
    if scope == "group":
        return subject in filters.groups
    return kind != "many_down"
