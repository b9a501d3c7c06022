"""The lists on pages from which the labels of stores are chosen."""

from collections.abc import Sequence
from typing import Any, Final

from storemon_flask.labels import GROUP, TAG_PREFIX, split_filter
from storemon_flask.stores.live_list import Snapshot

# So many values fit into a list to choose from.
_MOST_VALUES: Final = 200
# So many labels besides the group have a list of their own; the address may name any.
_MOST_LABELS: Final = 6


def label_choices(snapshot: Snapshot, asked: Sequence[str]) -> list[dict[str, Any]]:
    """Return the labels to choose from, the first few of those that have not too many values, each with what a list may
    be limited to; and those of `asked`, texts such as `region=West`, that it is limited to."""
    choices: dict[str, list[str]] = {}
    for name in snapshot.labels.names:
        if name != GROUP and len(choices) < _MOST_LABELS:
            values = snapshot.labels.codes(name).values
            if len(values) <= _MOST_VALUES:
                choices[name] = values
    for name, value in map(split_filter, asked):
        if value not in choices.setdefault(name, []):
            choices[name] = [*choices[name], value]
    return [
        {
            "name": name.removeprefix(TAG_PREFIX),
            "options": [(f"{name}={value}", value or "(none)") for value in values],
            "chosen": [text for text in asked if split_filter(text)[0] == name],
        }
        for name, values in choices.items()
    ]
