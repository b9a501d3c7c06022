"""The command `info`: what is installed, what the data are, and the licences of all that storemon is made of."""

import json
import platform
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from storemon_flask import zonedata
from storemon_flask.characters import count_text
from storemon_flask.cli.command import command, get_settings, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import named
from storemon_flask.errors import DatabaseError, StoremonError
from storemon_flask.rules import MINUTE_US
from storemon_flask.settings import SETTINGS, Settings
from storemon_flask.version import VERSION, build, single_file

if TYPE_CHECKING:
    from storemon_flask.database.connections import Database

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_LINE: Final = "=" * 80
_FILE_NAMES: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE)


@command("info")
@click.option("--licenses", is_flag=True, help="Show the licences of storemon and of all it is made of instead.")
@listing
@click.pass_context
def info(ctx: click.Context, licenses: bool) -> None:
    """Show paths, sizes, counts, the newest poll, versions and settings.

    \b
    Examples:
      storemon info
      storemon info --json
    """
    settings = get_settings(ctx)
    form = form_of(ctx)
    if licenses:
        if form:
            raise click.UsageError("--licenses is a text; leave out --json and --csv.", ctx)
        click.echo(read_licenses())
        return
    database = open_database(ctx)
    rows = info_rows(settings, database)
    if form:
        # Of warnings there may be several.
        document: dict[str, object] = {name: value for name, value in rows if name != "warning"}
        document["warnings"] = [value for name, value in rows if name == "warning"]
        write_listing(form, document, "", ["name", "value"], [{"name": name, "value": value} for name, value in rows])
    width = max(len(name) for name, _ in rows)
    for name, value in [] if form else rows:
        for line in named(name, value, width):
            click.echo(line)
    if not database.exists():
        ctx.exit(1)


def info_rows(settings: Settings, database: "Database") -> list[tuple[str, str]]:
    """Return names and values of the installation and its data, also without a database."""
    from storemon_flask.database.connections import SQLITE_VERSION
    from storemon_flask.database.readiness import start_warnings

    rows = [
        ("storemon", VERSION),
        ("program", _program()),
        ("python", f"{platform.python_version()}, SQLite {SQLITE_VERSION}"),
        (
            "packages",
            ", ".join(_package(name) for name in ("flask", "waitress", "pandas", "numpy", "sqlite-utils")),
        ),
        ("time zone data", f"tzdata {zonedata.version()}"),
        ("home", str(settings.home)),
        ("database", f"{settings.database}{_size(settings.database)}"),
        ("reports", f"{settings.reports_dir}{_files(settings.reports_dir)}"),
    ]
    rows += _counts(database, settings.rules.latest_us(time.time_ns() // 1000))
    rows += [(setting.name, _value(settings, setting.field)) for setting in SETTINGS if setting.unit != "path"]
    return rows + [("warning", sentence) for sentence in start_warnings(settings, database)]


def _program() -> str:
    file = single_file()
    if file is None:
        return f"the Python package in {_PACKAGE}"
    # The folder it unpacks itself into holds no data and goes when the program ends.
    return f"the single file {file} (build {build()}), unpacked in {_PACKAGE.parent}"


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _counts(database: "Database", latest_us: int) -> list[tuple[str, str]]:
    from storemon_flask.clock import timestamp_text
    from storemon_flask.database import loads, polls, prune, reports, stores
    from storemon_flask.database.newest import future_polls, newest_poll

    try:
        with database.read() as connection:
            rows = stores.all_rows(connection)
            newest = newest_poll(database, connection, latest_us)
            future = future_polls(newest.ahead)
            complete_from = stores.complete_from(connection)
            number, rejected = loads.totals(connection)
            states = reports.count_by_state(connection)
            return [
                ("stores", f"{len(rows.ids):,}"),
                ("polls", f"{polls.count(connection):,}"),
                ("newest poll", "none" if newest.poll_us is None else timestamp_text(newest.poll_us)),
                *([("future polls", future)] if future else []),
                *([("polls pruned", prune.completeness_note(complete_from))] if complete_from is not None else []),
                ("data version", str(stores.data_version(connection))),
                ("loads", f"{number:,}, {count_text(rejected, 'row')} rejected"),
                ("reports", ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())) or "none"),
            ]
    except DatabaseError as error:
        return [("data", error.message)]


def _value(settings: Settings, field: str) -> str:
    value = getattr(settings, field)
    if field.endswith("_us"):
        minutes = value / MINUTE_US
        return f"{minutes / 60:g} h" if minutes % 60 == 0 else f"{minutes:g} min"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _size(file: Path) -> str:
    return f" ({file.stat().st_size / 1e6:,.1f} MB)" if file.is_file() else " (not there yet)"


def _files(folder: Path) -> str:
    sizes = []
    for file in folder.glob("report_*.csv"):
        # A server beside this may delete it meanwhile.
        with suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return f" ({count_text(len(sizes), 'file')}, {sum(sizes) / 1e6:,.1f} MB)" if folder.is_dir() else " (not there yet)"


def read_licenses() -> str:
    """Return the licence of storemon and of every package it runs on; `StoremonError` when they cannot be known."""
    built_in = _PACKAGE / "licenses.txt"
    if built_in.is_file():
        return built_in.read_text("utf-8")
    try:
        required = distribution("storemon").requires or []
    except PackageNotFoundError:
        raise StoremonError(
            "storemon is not installed as a package, so what it runs on is not known; `pip install -e .` installs it"
        ) from None
    return own_license(_PACKAGE.parent / "LICENSE") + package_licenses(_closure(required, set()))


def required_packages(file: Path, without: set[str]) -> list[str]:
    """Return the packages that file names and all that those need, sorted; `without` names those left out."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return _closure(lines, without)


def own_license(file: Path) -> str:
    """Return the first part of the text: storemon's own licence."""
    text = file.read_text("utf-8").strip() if file.is_file() else _license_text(distribution("storemon"))
    return f"storemon\n{text}\n"


def package_licenses(names: Iterable[str]) -> str:
    """Return the licences of those packages, each below a line with its name, version and licence."""
    return "".join(
        f"\n{_LINE}\n{_title(package)}\n{_LINE}\n{_license_text(package)}\n{_compiled_in(package)}"
        for package in map(distribution, names)
    )


def _closure(required: Iterable[str], without: set[str]) -> list[str]:
    # pip comes with sqlite-utils, for a command of its own.
    skipped, names = without | {"pip"}, set()
    waiting = _names(required)
    while waiting:
        name = waiting.pop()
        if name in names or name in skipped:
            continue
        try:
            waiting += _names(distribution(name).requires or [])
        except PackageNotFoundError:
            continue
        names.add(name)
    return sorted(names)


def _names(requirements: Iterable[str]) -> list[str]:
    """Return the names of requirements such as `Flask>=3; python_version > "3"`, without those of extras."""
    return [
        re.split(r"[^A-Za-z0-9._-]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")
        for line in requirements
        if "extra ==" not in line
    ]


def _title(package: Distribution) -> str:
    meta = package.metadata
    stated = next((meta[name] for name in ("License-Expression", "License") if name in meta), "see below")
    return f"{meta['Name']} {package.version} ({stated.strip().partition(chr(10))[0][:60]})"


def _license_text(package: Distribution) -> str:
    files = [file for file in package.files or [] if _FILE_NAMES.match(file.name) and ".dist-info" in file.parts[0]]
    texts = [Path(str(file.locate())).read_text("utf-8", "replace").strip() for file in files]
    return "\n\n".join(texts) or "The package brings no text of its licence."


def _compiled_in(package: Distribution) -> str:
    """The libraries that a package lists as compiled into it, each with its version and licence."""
    lines = []
    for file in package.files or []:
        if file.parent.name == "sboms" and file.name.endswith(".cyclonedx.json"):
            for part in json.loads(file.read_text("utf-8")).get("components", []):
                stated = [one.get("expression") or one.get("license", {}).get("id") for one in part.get("licenses", [])]
                licenses = " AND ".join(filter(None, stated)) or "no licence stated"
                lines.append(f"- {part['name']} {part.get('version', '')} ({licenses})\n")
    return f"\nCompiled into it are:\n\n{''.join(lines)}" if lines else ""
