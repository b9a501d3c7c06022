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
    """The page."""
    document = openapi.current()
    groups = [
        {**tag, "calls": [one for one in _calls(document) if tag["name"] in one["tags"]]} for tag in document["tags"]
    ]
    return render_template("docs.html", info=document["info"], groups=groups, version=VERSION)


def _calls(document: dict[str, Any]) -> list[dict[str, Any]]:
    schemas = document["components"]["schemas"]
    found = []
    for path, item in document["paths"].items():
        for method, one in item.items():
            content = one.get("requestBody", {}).get("content", {})
            bodies = [
                {
                    "type": kind,
                    "file": kind in _FILES,
                    "example": "" if kind in _FILES else _shown(told, schemas),
                    "about": _resolved(told["schema"], schemas).get("description", ""),
                }
                for kind, told in content.items()
            ]
            found.append({**one, "path": path, "method": method.upper(), "bodies": bodies})
    return found


def _shown(told: dict[str, Any], schemas: dict[str, Any]) -> str:
    example = told["example"] if "example" in told else _example(told["schema"], schemas)
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Something that fits: the field's own example, the least number, the fields that must be there."""
    schema = _resolved(schema, schemas)
    if "example" in schema:
        return schema["example"]
    if schema.get("type") == "object":
        return {name: _example(schema["properties"][name], schemas) for name in schema.get("required", [])}
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas)]
    return schema.get("minimum", "")
