"""What a scheduled report says in a message: subject, text, HTML, and the event of a webhook."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from textwrap import fill
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment

from storemon_flask.characters import count_text, escaped
from storemon_flask.clock import duration_text, timestamp_text, utc_datetime
from storemon_flask.database.reports import ReportRecord
from storemon_flask.database.schedules import Run, Schedule
from storemon_flask.reports.request import describe
from storemon_flask.schedules.due import local_text
from storemon_flask.schedules.summary import Summary, percent_text, sentence
from storemon_flask.zonedata import zone

# Larger files are not attached to mails: many servers refuse them.
MOST_ATTACHED_BYTES: Final = 5_000_000
_NAME_WIDTH: Final = 40


@dataclass(frozen=True, slots=True)
class Made:
    """What a run has made: the report, its summary, where the data end if that is early, and how large the file is.

    `needed_us` is until when there should be data; `data_end_us` the newest poll where that is earlier, -1 without any.
    """

    record: ReportRecord
    summary: Summary
    note: str
    needed_us: int
    data_end_us: int | None
    file_bytes: int


def completed(schedule: Schedule, run: Run, made: Made, public_url: str, attach: bool) -> dict[str, Any]:
    """Return the content of the message of a report that was made; `attach`: with the file, if it is small enough or
    the channel is a folder."""
    answer = sentence(schedule.name, made.summary, schedule.below_hundredths)
    link = f"{public_url}/reports/{made.record.id}" if public_url else ""
    name = file_name(schedule, run)
    parts = {
        "answer": answer,
        "facts": _facts(schedule, run, made),
        "summary": replace(made.summary, worst=[]),
        "worst": [{**asdict(line), "store": _store(line.name, line.store_id)} for line in made.summary.worst],
        "rest": _rest(made, schedule),
        "file": _about_file(name, made, attach, link),
        "link": link,
    }
    return {
        "subject": answer,
        "summary": answer,
        "text": _TEXT.render(parts),
        "html": _HTML.render(parts),
        "event": _event(schedule, run, made, answer, public_url),
        "attachment": {"report": made.record.id, "format": schedule.format, "name": name} if attach else None,
    }


def failed(schedule: Schedule, run: Run, reason: str, now_us: int) -> dict[str, Any]:
    """Return the content of the message of a report that could not be made."""
    answer = f"{schedule.name}: the report could not be made"
    facts = [f"It was due {local_text(run.due_us, schedule.zone)}. {reason[:1].upper()}{reason[1:]}."]
    parts = {"answer": answer, "facts": facts, "worst": [], "rest": [], "file": "", "link": ""}
    data = {"summary": answer, "schedule": schedule.name, "due": timestamp_text(run.due_us), "reason": reason}
    return {
        "subject": answer,
        "summary": answer,
        "text": _TEXT.render(parts),
        "html": _HTML.render(parts),
        "event": {"type": "report.failed", "timestamp": timestamp_text(now_us), "data": data},
        "attachment": None,
    }


def message_id(run: Run, channel: int) -> str:
    """Return the id of the message of a run for a channel: the same whenever and however often it is made."""
    return f"rep_{run.schedule}_{run.due_us // 1_000_000}_{channel}"


def file_name(schedule: Schedule, run: Run) -> str:
    """Return the name of the file: that of the schedule and when it was due, in its zone."""
    safe = "".join(letter if letter.isalnum() or letter in " -_" else "_" for letter in schedule.name)
    return f"{safe.strip()} {utc_datetime(run.due_us).astimezone(zone(schedule.zone)):%Y-%m-%d %H%M}.{schedule.format}"


def _facts(schedule: Schedule, run: Run, made: Made) -> list[str]:
    """Return sentences on what the report is about, the most important first: where the data end."""
    facts = []
    if made.data_end_us is not None:
        if made.data_end_us < 0:
            facts.append("There are no polls at all, so nothing is known.")
        else:
            early = duration_text(made.needed_us - made.data_end_us)
            facts.append(
                f"The data end at {local_text(made.data_end_us, schedule.zone)}, {early} too early for this report; "
                "what polls would have said later is unknown."
            )
    if made.note:
        facts.append(f"Most stores are silent: {made.note}.")
    facts.append(f"{describe(made.record)}, as of {local_text(run.due_us, schedule.zone)}.")
    return facts


def _rest(made: Made, schedule: Schedule) -> list[str]:
    """Return sentences on the amounts and on what is unknown."""
    some = made.summary
    unit = "minutes" if some.unit == "min" else "hours"
    texts = [
        f"Of {_grouped(some.business)} business {unit} of {count_text(some.stores, 'store')}, {_grouped(some.uptime)} "
        f"were up and {_grouped(some.downtime)} down. {_grouped(some.unknown)} are unknown: no poll tells of them, so "
        f"the uptime is at least {_grouped(some.lowest)} and at most {_grouped(some.highest)} {unit}."
    ]
    if some.little_known:
        texts.append(
            f"Of {count_text(some.little_known, 'store')} too little is known: more than a tenth of the business time "
            f"is unknown. {'It is' if some.little_known == 1 else 'They are'} not counted as below "
            f"{percent_text(schedule.below_hundredths)} %, and not in the list."
        )
    return texts


def _about_file(name: str, made: Made, attach: bool, link: str) -> str:
    if attach:
        return f"Every row is in the file {name}."
    if made.file_bytes <= MOST_ATTACHED_BYTES:
        return ""
    where = f"fetch it from {link}" if link else f"fetch it from the server, as report {made.record.id}"
    return f"The file has {made.file_bytes / 1e6:,.1f} MB, too much for a mail; {where}."


def _event(schedule: Schedule, run: Run, made: Made, answer: str, public_url: str) -> dict[str, Any]:
    some = made.summary
    base = f"{public_url}/get_report?report_id={quote(made.record.id)}" if public_url else ""
    data = {
        "summary": answer,
        "schedule": schedule.name,
        "due": timestamp_text(run.due_us),
        "report_id": made.record.id,
        "url": f"{public_url}/reports/{made.record.id}" if public_url else None,
        "file_url": f"{base}&format={schedule.format}" if base else None,
        "window": some.window,
        "unit": "minutes" if some.unit == "min" else "hours",
        "uptime_percent": float(some.percent) if some.percent else None,
        **{name: float(getattr(some, name)) for name in ("uptime", "downtime", "unknown", "business")},
        "stores": some.stores,
        "below": some.below,
        "below_percent": schedule.below_hundredths / 100,
        "little_known": some.little_known,
        "data_end": None if (made.data_end_us or -1) < 0 else timestamp_text(made.data_end_us or 0),
        "worst": [
            {
                "store_id": line.store_id,
                "name": line.name or None,
                "group": line.group or None,
                "uptime_percent": float(line.percent),
                "downtime": float(line.downtime),
                "unknown": float(line.unknown),
            }
            for line in some.worst
        ],
    }
    return {"type": "report.completed", "timestamp": timestamp_text(run.due_us), "data": data}


def _grouped(cell: str) -> str:
    """Return the digits of a cell with commas between thousands."""
    whole, dot, rest = cell.partition(".")
    return f"{int(whole):,}{dot}{rest}" if whole.isdecimal() else cell


def _store(name: str, store_id: str) -> str:
    """Return what people know a store by, on one line."""
    return escaped(name or store_id)


def _line(columns: Mapping[str, Any]) -> str:
    """Return a line of the table in the text."""
    store = columns["store"]
    store = store if len(store) <= _NAME_WIDTH else f"{store[: _NAME_WIDTH - 1]}…"
    return f"{columns['percent']:>8} %  {columns['downtime']:>9}  {columns['unknown']:>9}  {store}"


def _environment(html: bool) -> Environment:
    environment = Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"line": _line, "wrapped": _wrapped}
    return environment


def _wrapped(text: str) -> str:
    return fill(text, 76, break_long_words=False, break_on_hyphens=False)


_TEXT: Final = _environment(html=False).from_string("""\
{{ (answer ~ '.') | wrapped }}

{% for fact in facts %}
{{ fact | wrapped }}
{% endfor %}
{% for sentence in rest %}

{{ sentence | wrapped }}
{% endfor %}
{% if worst %}

The worst {{ 'store' if worst | length == 1 else worst | length ~ ' stores' }} ({{ summary.unit }}):

  uptime         down    unknown  store
{% for one in worst %}
{{ one | line }}
{% endfor %}
{% elif rest %}

No store has known down time.
{% endif %}
{% if file or link %}

{% if file %}{{ file | wrapped }}
{% endif %}
{% if link %}{{ link }}
{% endif %}
{% endif %}
""")
# Styles stand at the elements: mail programs drop all others. Their colours are readable on white and on black.
_HTML: Final = _environment(html=True).from_string("""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ answer }}</title></head>
<body style="font-family:system-ui,sans-serif;font-size:15px;line-height:1.45">
<h1 style="font-size:19px">{{ answer }}</h1>
{% for fact in facts %}
<p>{{ fact }}</p>
{% endfor %}
{% for sentence in rest %}
<p>{{ sentence }}</p>
{% endfor %}
{% if worst %}
<table style="border-collapse:collapse">
<caption style="text-align:left;font-weight:600">
The worst {{ 'store' if worst | length == 1 else worst | length ~ ' stores' }}
</caption>
<thead><tr>
<th scope="col" style="text-align:left;padding:3px 12px 3px 0">store</th>
{% for name in ('uptime %', 'down ' ~ summary.unit, 'unknown ' ~ summary.unit) %}
<th scope="col" style="text-align:right;padding:3px 0 3px 12px">{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for one in worst %}
<tr>
<th scope="row" style="text-align:left;font-weight:400;padding:3px 12px 3px 0"><bdi>{{ one.store }}</bdi>
{% if one.group %}
<small>(<bdi>{{ one.group }}</bdi>)</small>
{% endif %}
</th>
{% for cell in (one.percent, one.downtime, one.unknown) %}
<td style="text-align:right;padding:3px 0 3px 12px">{{ cell }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% elif rest %}
<p>No store has known down time.</p>
{% endif %}
{% if file %}
<p>{{ file }}</p>
{% endif %}
{% if link %}
<p><a href="{{ link }}">The report with every row</a></p>
{% endif %}
</body></html>
""")
