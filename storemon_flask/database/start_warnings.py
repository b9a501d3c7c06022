"""What whoever starts a server should know: settings that are ignored or let strangers in, old data of time zones."""

import ipaddress
import time

from storemon_flask import zonedata
from storemon_flask.database import keys
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings, unknown


def start_warnings(settings: Settings, database: Database, host_is_judged: bool = False) -> list[str]:
    """Sentences for the start of a server and for `storemon info`; at most one read of the database.

    `storemon serve` judges by itself at which addresses it listens (`host_is_judged`).
    """
    sentences = unknown(settings.home)
    old_zones = zonedata.old_sentence(time.gmtime().tm_year)
    if old_zones:
        sentences.append(old_zones)
    reasons = _strangers(settings, host_is_judged)
    if reasons and not _has_key(settings, database):
        sentences.append(
            f"no key is set, and other machines are let in ({', '.join(reasons)}): everybody who can reach this server can "
            "read and change everything; set STOREMON_API_KEY, or run `storemon keys add --scope admin`"
        )
    if not host_is_judged and not _is_this_machine(settings.host):
        sentences += without_a_proxy(settings, f"STOREMON_HOST is {settings.host}")
    return sentences


def without_a_proxy(settings: Settings, where: str) -> list[str]:
    """The sentence that a reverse proxy belongs in front of a server that other machines reach; none where one of them
    is trusted.

    `where`: by what they reach it. A proxy on this machine alone keeps nobody else away.
    """
    if any(not network.is_loopback for network in settings.trusted_networks):
        return []
    return [
        f"other machines reach this server without a reverse proxy ({where}): put one in front (docs/deploy.md), for senders that "
        "trickle and readers that stall are its job, and set STOREMON_TRUSTED_PROXY to its address; on the same machine let the "
        "server listen on 127.0.0.1"
    ]


def _strangers(settings: Settings, host_is_judged: bool) -> list[str]:
    """The settings, with their values, that are there for requests from other machines."""
    names = [] if settings.trusted_hosts == "auto" else settings.trusted_hosts.split(",")
    reasons = []
    if any(not _is_this_machine(name) for name in names):
        reasons.append(f"STOREMON_TRUSTED_HOSTS is {settings.trusted_hosts}")
    if settings.trusted_proxy != "none":
        reasons.append(f"STOREMON_TRUSTED_PROXY is {settings.trusted_proxy}")
    if not host_is_judged and not _is_this_machine(settings.host):
        reasons.append(f"STOREMON_HOST is {settings.host}")
    return reasons


def _is_this_machine(name: str) -> bool:
    name = name.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _has_key(settings: Settings, database: Database) -> bool:
    try:
        return keys.required(database, settings.api_key)
    except DatabaseError:
        # No server starts with such a database; the sentence about it is more to the point.
        return True
