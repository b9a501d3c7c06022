"""A folder of this machine that reports are put into."""

import shutil
from pathlib import Path
from typing import Final

from storemon_flask.database import files
from storemon_flask.delivery import attachments, content
from storemon_flask.delivery.answer import Answer
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.parcel import Parcel
from storemon_flask.errors import Unprocessable
from storemon_flask.settings import Settings

# What a name of a file cannot have on one system or another.
_NOT_IN_NAMES: Final = '/\\:*?"<>|'
_MAX_NAME: Final = 150


def check(address: str, settings: Settings) -> str:
    """Return the path of the folder, from the home folder on; `Unprocessable` when it is not there."""
    if not address.strip() or "\0" in address:
        raise Unprocessable("the folder must be a path")
    folder = settings.home / address
    try:
        if not folder.is_dir():
            raise Unprocessable(f"there is no folder {folder}; make it first")
    except OSError as error:
        raise Unprocessable(f"the folder {str(folder)[:_MAX_NAME]} cannot be used: {error.strerror}") from None
    return str(folder)


def shown(address: str) -> str:
    """Return the path."""
    return address


def send(parcel: Parcel, deadline: Deadline) -> Answer:
    """Put the attachment of the message into the folder under its name, or its text; whole, or not at all."""
    folder = Path(parcel.channel.address.value)
    message = parcel.message
    reference = message.content.get("attachment")
    try:
        with attachments.opened(parcel.database, parcel.settings.reports_dir, reference) as attachment:
            name = _file_name(f"{message.id}.txt" if attachment is None else attachment.name)
            with files.replacing(folder / name) as temporary, temporary.open("wb") as stream:
                if attachment is None:
                    title, body = content.plain(message.content)
                    stream.write(f"{title}\n\n{body}\n".encode())
                else:
                    shutil.copyfileobj(attachment.stream, stream)
    except OSError as error:
        return Answer(False, f"{folder}: {error.strerror or error}")
    return Answer(True, f"written: {name}")


def _file_name(text: str) -> str:
    """Return a name that stays in the folder, on every system."""
    name = "".join("-" if letter in _NOT_IN_NAMES or not letter.isprintable() else letter for letter in text)
    stem, dot, ending = name.strip(". ").rpartition(".")
    return f"{stem[:_MAX_NAME]}{dot}{ending[:10]}"
