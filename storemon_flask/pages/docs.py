"""`/docs`: a page that lists every call and tries it out.

It is made from openapi.json, so neither can say what the other does not.
"""

import json
from typing import Any, Final

from flask import Blueprint, render_template

from storemon_flask.api import openapi
from storemon_flask.version import VERSION
from storemon_flask.web import contract

blueprint = Blueprint("docs", __name__)

# Forms whose body is a file that somebody chooses.
_FILES: Final = ("multipart/form-data", "application/gzip")


@contract.page(blueprint, "GET", "/docs", scope="read")
def docs() -> str:
    """Return the page."""
    document = openapi.read_document()
    groups = [
        {**tag, "calls": [one for one in _calls(document) if tag["name"] in one["tags"]]} for tag in document["tags"]
    ]
    return render_template("docs.html", info=document["info"], groups=groups, version=VERSION)


def _calls(document: dict[str, Any]) -> list[dict[str, Any]]:
    schemas = document["components"]["schemas"]
    return [
        {
            **call,
            "path": path,
            "method": method.upper(),
            "bodies": [
                {
                    "type": media_type,
                    "file": media_type in _FILES,
                    "example": "" if media_type in _FILES else _example_text(body, schemas),
                    "about": _resolved(body["schema"], schemas).get("description", ""),
                }
                for media_type, body in call.get("requestBody", {}).get("content", {}).items()
            ],
        }
        for path, item in document["paths"].items()
        for method, call in item.items()
    ]


def _example_text(body: dict[str, Any], schemas: dict[str, Any]) -> str:
    example = body["example"] if "example" in body else _example(body["schema"], schemas)
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    resolved: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return resolved


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return an example of the schema: the field's own, the least number, the required fields."""
    schema = _resolved(schema, schemas)
    if "example" in schema:
        return schema["example"]
    if schema.get("type") == "object":
        return {name: _example(schema["properties"][name], schemas) for name in schema.get("required", [])}
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas)]
    return schema.get("minimum", "")
