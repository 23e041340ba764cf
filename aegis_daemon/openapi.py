"""What the daemon serves, described as OpenAPI: made of the operations and values themselves, so that it is true."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import attrs

from aegis_daemon.asked import all_optional
from aegis_daemon.operations import Operation, Pace
from aegis_daemon.schema import Schema, Schemas
from aegis_sdk.model import Progress

_PATH_PART = {"type": "string", "minLength": 1}
_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint"],
            "properties": {name: {"type": "string"} for name in ("code", "message", "hint")},
        }
    },
}


def describe(operations: Iterable[Operation], *, version: str) -> dict[str, Any]:
    """The description of *operations*, as what JSON holds."""
    answers, requests = Schemas(whole=True), Schemas(whole=False, ending="Request")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, requests, answers)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Aegis",
            "version": version,
            "description": "Sandboxes, tasks, images, apps and secrets of one user, on a unix socket.",
        },
        "paths": paths,
        "components": {"schemas": {**requests.defined, **answers.defined, "Error": _ERROR}},
    }


def _operation(operation: Operation, requests: Schemas, answers: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": f"{operation.verb.__module__.rpartition('.')[2]}.{operation.verb.__name__.rstrip('_')}",
        "summary": operation.summary,
        "parameters": [_place(name) for name in operation.places] + _query(operation, requests),
        "responses": {str(operation.status): _answer(operation, answers), **_errors()},
    }
    if operation.body:
        content = {"application/json": {"schema": requests.of(operation.body)}}
        made["requestBody"] = {"required": not all_optional(operation.body), "content": content}
    return made


def _place(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _PATH_PART}


def _query(operation: Operation, requests: Schemas) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    shape = attrs.resolve_types(operation.query)
    return [
        {
            "name": field.name,
            "in": "query",
            "required": field.default is attrs.NOTHING,
            "schema": _never_null(requests.field(shape, field)),
        }
        for field in attrs.fields(shape)
    ]


def _never_null(schema: Schema) -> Schema:
    parts = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    return parts[0] if parts else schema


def _answer(operation: Operation, answers: Schemas) -> dict[str, Any]:
    said = HTTPStatus(operation.status).phrase
    if operation.answer is None:
        return {"description": said}
    schema = answers.of(operation.answer)
    if operation.pace is Pace.LINES:
        return {"description": f"{said}: such values, each on a line", "content": {"application/x-ndjson": {}}}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if operation.pace is Pace.REPORTS:
        content["application/x-ndjson"] = {}
        said += (
            "; if it is asked for lines: {progress: ...}, as x-progress says, and last {result: ...} or {error: ...}"
        )
        return {"description": said, "content": content, "x-progress": answers.of(Progress)}
    return {"description": said, "content": content}


def _errors() -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "4XX": {"description": "The request cannot be answered.", "content": error},
        "5XX": {"description": "What it takes is not there, or failed.", "content": error},
    }
