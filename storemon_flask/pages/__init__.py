"""Pages for people: HTML made by the server from what the API's services say. Reading them needs no script."""

from flask import Flask


def register(app: Flask) -> None:
    """The app with its pages, and its templates with the words they use."""
    from storemon_flask.pages import (
        alerts,
        data,
        now,
        outages,
        overview,
        previews,
        reports,
        schedules,
        store,
        tokens,
        words,
    )

    words.register(app)
    for topic in (now, overview, outages, alerts, store, reports, schedules, data, previews, tokens):
        app.register_blueprint(topic.blueprint)
