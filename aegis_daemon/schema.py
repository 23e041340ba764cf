"""JSON Schema of the values that cross the socket, as ``wire`` reads and writes them."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

import attrs

from aegis_sdk.model import AppSpec, Port, Readiness, SandboxSpec, TaskSpec, TerminalSize
from aegis_sdk.model.image import PULL_POLICIES
from aegis_sdk.model.port import MAXIMUM_PORTS, PROTOCOLS
from aegis_sdk.model.sandbox import MAXIMUM_CPUS, MAXIMUM_PROCESSES, MINIMUM_MEMORY, MINIMUM_PROCESSES
from aegis_sdk.mount import MAXIMUM_MOUNTS

Schema = dict[str, Any]
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    types.NoneType: {"type": "null"},
}
#: What the SDK's own values check beyond their types.
_LIMITS: dict[tuple[type[Any], str], Schema] = {
    (SandboxSpec, "memory"): {"minimum": MINIMUM_MEMORY, "maximum": 1 << 24},
    (SandboxSpec, "cpus"): {"minimum": 1, "maximum": MAXIMUM_CPUS},
    (SandboxSpec, "disk"): {"minimum": 1},
    (SandboxSpec, "processes"): {"minimum": MINIMUM_PROCESSES, "maximum": MAXIMUM_PROCESSES},
    (SandboxSpec, "image"): {"minLength": 1},
    (SandboxSpec, "pull"): {"enum": list(PULL_POLICIES)},
    (SandboxSpec, "mounts"): {"maxItems": MAXIMUM_MOUNTS},
    (AppSpec, "expose"): {"maxItems": MAXIMUM_PORTS},
    (TaskSpec, "expose"): {"maxItems": MAXIMUM_PORTS},
    (AppSpec, "idle"): {"exclusiveMinimum": 0},
    (AppSpec, "stop_after"): {"exclusiveMinimum": 0},
    (Port, "number"): {"minimum": 1, "maximum": 65_535},
    (Port, "local"): {"minimum": 1, "maximum": 65_535},
    (Port, "protocol"): {"enum": list(PROTOCOLS)},
    (Readiness, "port"): {"minimum": 1, "maximum": 65_535},
    (Readiness, "interval"): {"exclusiveMinimum": 0, "maximum": 3600},
    (Readiness, "timeout"): {"exclusiveMinimum": 0, "maximum": 3600},
    (TerminalSize, "rows"): {"minimum": 1, "maximum": (1 << 16) - 1},
    (TerminalSize, "cols"): {"minimum": 1, "maximum": (1 << 16) - 1},
}


@attrs.frozen
class Schemas:
    """The schemas of values, each defined once under its name; answers have all their fields, requests those needed.

    So one that is in both has two: in requests its name has *ending* behind it.
    """

    whole: bool
    ending: str = ""
    defined: dict[str, Schema] = attrs.field(factory=dict)

    def of(self, shape: Any) -> Schema:
        """The schema of *shape*, a class or a type made of some."""
        if shape in _PLAIN:
            return dict(_PLAIN[shape])
        if attrs.has(shape):
            return self._reference(shape)
        if isinstance(shape, type) and issubclass(shape, enum.Enum):
            return {"type": "string", "enum": list(shape.__members__)}
        origin, parts = get_origin(shape), get_args(shape)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of(part) for part in parts]}
        if origin is tuple:
            return {"type": "array", "items": self.of(parts[0])}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(parts[1])}
        raise TypeError(f"{shape} has no schema")

    def field(self, shape: type[Any], field: attrs.Attribute[Any]) -> Schema:
        """The schema of one field of the class *shape*."""
        found = self.of(field.type)
        limits = dict(field.metadata.get("schema", {}))
        for kind in shape.__mro__:
            limits |= _LIMITS.get((kind, field.name), {})
        for part in found.get("anyOf", [found]):
            if part.get("type") != "null":
                part.update(limits)
        return found

    def _reference(self, shape: type[Any]) -> Schema:
        name = shape.__name__ + self.ending
        if name not in self.defined:
            self.defined[name] = {}  # so that one which holds itself is found
            self.defined[name] = self._object(shape)
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, shape: type[Any]) -> Schema:
        fields = attrs.fields(attrs.resolve_types(shape))
        made: Schema = {"type": "object", "additionalProperties": False, "properties": {}}
        if shape.__doc__:
            made["description"] = " ".join(shape.__doc__.split())
        required = []
        for field in fields:
            needed = self.whole or field.default is attrs.NOTHING
            if field.type is bytes:
                _add_bytes(made, field.name, needed=needed)
                continue
            made["properties"][field.name] = self.field(shape, field)
            required += [field.name] * needed
        if required:
            made["required"] = required
        return made


def _add_bytes(made: Schema, name: str, *, needed: bool) -> None:
    """Bytes are text, or where they are not UTF-8, base64 under another name."""
    encoded = f"{name}_base64"
    made["properties"] |= {name: {"type": "string"}, encoded: {"type": "string", "format": "byte"}}
    ways = [{"required": [name]}, {"required": [encoded]}]
    made["oneOf"] = ways if needed else [*ways, {"not": {"anyOf": ways}}]
