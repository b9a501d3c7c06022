"""The commands that work on data: thin, the same for `storemon` and `flask --app storemon_flask`."""

import click

from storemon_flask.cli import (
    advise,
    alerts,
    channels,
    imports,
    info,
    keys,
    listen,
    load,
    overview,
    report,
    schedules,
    stores,
    upkeep,
)

COMMANDS: tuple[click.Command, ...] = (
    load.load_data,
    load.rejects,
    load.loads,
    listen.listen,
    imports.import_,
    report.report,
    report.outages,
    report.diff,
    overview.overview,
    advise.advise,
    stores.stores,
    stores.store,
    info.info,
    alerts.alerts,
    channels.channels,
    schedules.schedules,
    keys.keys,
    keys.tokens,
    upkeep.backup,
    upkeep.restore,
    upkeep.check,
    upkeep.prune,
    upkeep.export,
)
