"""Reports asked for by a form, and their tables, in tests of pages."""

import csv
import html
import io
import re
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def ask(client: FlaskClient, **form: Any) -> TestResponse:
    return client.post("/reports", data=form, headers=BROWSER)


def asked(client: FlaskClient, **form: Any) -> str:
    """The page of the report that was made."""
    answer = ask(client, **form)
    assert answer.status_code == 303, answer.text
    found: str = answer.headers["Location"]
    return found


def cells(page: str) -> list[list[str]]:
    """The rows of the report's table, header first, without the marks and units around the figures and without what
    stores are called."""
    table = page[page.index('<table class="data cells">') : page.index("</table>")]
    table = re.sub(r'<small class="(called|known)">.*?</small>', "", table)
    return [
        [
            html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    ]


def the_csv(client: FlaskClient, location: str) -> list[list[str]]:
    answer = client.get("/get_report", query_string={"report_id": location.rpartition("/")[2]})
    return list(csv.reader(io.StringIO(answer.text)))
