"""What of a new OpenAPI document would break a client of an old one.

A client of the old document sends what that allows, and reads what that promises. So a request may be widened and an
answer may promise more, never the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
FORMS = ("pattern", "format", "multipleOf", "uniqueItems")
Schema = dict[str, Any]


@dataclass
class Findings:
    """What was found, a line each: `POST /v1/jobs: body.name: …`."""

    breaking: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, others: Findings) -> None:
        """Take what was found elsewhere, too."""
        self.breaking += others.breaking
        self.warnings += others.warnings


def compare(old: Schema, new: Schema) -> Findings:
    """Find what breaks clients of the old document."""
    found = Findings()
    for path, item in old["paths"].items():
        for method in METHODS:
            if method in item:
                after = new["paths"].get(path, {}).get(method)
                name = f"{method.upper()} {path}"
                if after is None:
                    found.breaking.append(f"{name}: it is gone")
                else:
                    _Operation(name, old, new, found).compare(item[method], after)
    return found


class _Operation:
    """One operation in both documents."""

    def __init__(self, name: str, old: Schema, new: Schema, found: Findings) -> None:
        self._name = name
        self._old = old
        self._new = new
        self._found = found

    def compare(self, old: Schema, new: Schema) -> None:
        if old["operationId"] != new["operationId"]:
            self._break("operationId", f"is now {new['operationId']}, was {old['operationId']}")
        if new.get("security") and not old.get("security"):
            self._break("security", "a key is needed now")
        self._parameters(_by_place(old), _by_place(new))
        self._body(old.get("requestBody"), new.get("requestBody"))
        for status, response in old["responses"].items():
            if status.startswith("2"):
                self._response(status, response, new["responses"].get(status))

    def _parameters(self, old: dict[str, Schema], new: dict[str, Schema]) -> None:
        for place, before in old.items():
            if place not in new:
                self._break(place, "it is gone")
                continue
            if new[place].get("required") and not before.get("required"):
                self._break(place, "it is needed now")
            self._found.breaking += self._narrowed(before["schema"], new[place]["schema"], place)
        for place in new.keys() - old.keys():
            if new[place].get("required"):
                self._break(place, "it is new and needed")

    def _body(self, old: Schema | None, new: Schema | None) -> None:
        if new is not None and new.get("required") and not (old or {}).get("required"):
            self._break("body", "it is needed now")
        for media_type, media in (old or {}).get("content", {}).items():
            after = (new or {}).get("content", {}).get(media_type)
            if after is None:
                self._break("body", f"{media_type} is not taken any more")
            else:
                self._found.breaking += self._narrowed(
                    media.get("schema", {}), after.get("schema", {}), "body"
                )

    def _response(self, status: str, old: Schema, new: Schema | None) -> None:
        if new is None:
            self._break(status, "it is not answered any more")
            return
        for media_type, media in old.get("content", {}).items():
            after = new.get("content", {}).get(media_type)
            if after is None:
                self._break(status, f"{media_type} is not sent any more")
            else:
                self._found.add(self._weakened(media.get("schema", {}), after.get("schema", {}), status))

    def _break(self, where: str, what: str) -> None:
        self._found.breaking.append(f"{self._name}: {where}: {what}")

    def _narrowed(self, old: Schema, new: Schema, where: str) -> list[str]:
        """What the old schema allows and the new one refuses, of a request."""
        lines = []
        choices = list(_alternatives(new, self._new))
        for before in _alternatives(old, self._old):
            likely = [after for after in choices if _takes(after, before)]
            if not likely:
                lines.append(
                    f"{self._name}: {where}: {before.get('type', 'any value')} is not taken any more"
                )
            else:
                lines += min((self._narrower(before, after, where) for after in likely), key=len)
        return lines

    def _narrower(self, old: Schema, new: Schema, where: str) -> list[str]:
        lines = [f"{self._name}: {where}: {what}" for what in _limits(old, new)]
        known = old.get("properties", {})
        lines += [
            f"{self._name}: {where}.{name}: it is new and needed" if name not in known
            else f"{self._name}: {where}.{name}: it is needed now"
            for name in sorted({*new.get("required", [])} - {*old.get("required", [])})
        ]  # fmt: skip
        open_before, open_now = (schema.get("additionalProperties", True) for schema in (old, new))
        if open_now is False and open_before is not False:
            lines.append(f"{self._name}: {where}: other fields than the known are not taken any more")
        for name, before in known.items():
            if name in new.get("properties", {}):
                lines += self._narrowed(before, new["properties"][name], f"{where}.{name}")
            elif open_now is False:
                lines.append(f"{self._name}: {where}.{name}: it is gone")
            elif isinstance(open_now, dict):
                lines += self._narrowed(before, open_now, f"{where}.{name}")
        for part, step in (("items", "[]"), ("additionalProperties", ".*")):
            if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
                lines += self._narrowed(old[part], new[part], where + step)
        return lines

    def _weakened(self, old: Schema, new: Schema, where: str) -> Findings:
        """What the old schema promises and the new one does not, of an answer."""
        found = Findings()
        choices = list(_alternatives(old, self._old))
        for after in _alternatives(new, self._new):
            likely = [before for before in choices if _takes(before, after)]
            if not likely:
                found.breaking.append(
                    f"{self._name}: {where}: it may be {after.get('type', 'any value')} now"
                )
            else:
                found.add(
                    min(
                        (self._weaker(before, after, where) for before in likely),
                        key=lambda one: len(one.breaking),
                    )
                )
        return found

    def _weaker(self, old: Schema, new: Schema, where: str) -> Findings:
        found = Findings()
        name = f"{self._name}: {where}"
        more = _values(new) - _values(old) if _values(old) and _values(new) else set()
        if more:
            found.warnings.append(f"{name}: it may also be {', '.join(sorted(more))}")
        elif _values(old) and not _values(new):
            found.breaking.append(f"{name}: it may be any value now")
        for field_name, promised in old.get("properties", {}).items():
            if field_name not in new.get("properties", {}):
                found.breaking.append(f"{name}.{field_name}: it is gone")
                continue
            if field_name in old.get("required", []) and field_name not in new.get("required", []):
                found.breaking.append(f"{name}.{field_name}: it may be missing now")
            found.add(self._weakened(promised, new["properties"][field_name], f"{where}.{field_name}"))
        for part, step in (("items", "[]"), ("additionalProperties", ".*")):
            if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
                found.add(self._weakened(old[part], new[part], where + step))
        return found


def _by_place(operation: Schema) -> dict[str, Schema]:
    return {f"{one['in']} {one['name']}": one for one in operation.get("parameters", [])}


def _alternatives(schema: Schema, document: Schema) -> Iterator[Schema]:
    """The schemas of which one holds: references looked up, anyOf, oneOf and lists of types taken apart."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        for choice in choices:
            yield from _alternatives(choice, document)
    elif isinstance(schema.get("type"), list):
        yield from ({**schema, "type": kind} for kind in schema["type"])
    else:
        yield schema


def _takes(wider: Schema, narrower: Schema) -> bool:
    kinds = (wider.get("type"), narrower.get("type"))
    return kinds[0] is None or kinds[0] == kinds[1] or kinds == ("number", "integer")


def _values(schema: Schema) -> set[str]:
    return {repr(value) for value in schema.get("enum", [schema["const"]] if "const" in schema else [])}


def _limits(old: Schema, new: Schema) -> Iterator[str]:
    """In which ways a single value is held in narrower bounds than before."""
    before, now = _values(old), _values(new)
    if now and not before:
        yield f"only {', '.join(sorted(now))} are taken now"
    elif now and before - now:
        yield f"{', '.join(sorted(before - now))} are not taken any more"
    for name in (*LOWER, *UPPER):
        if name in new:
            tighter = name not in old or (new[name] > old[name] if name in LOWER else new[name] < old[name])
            if tighter:
                yield f"{name} is now {new[name]}, was {old.get(name, 'none')}"
    for name in FORMS:
        if name in new and new[name] != old.get(name):
            yield f"{name} is now {new[name]}, was {old.get(name, 'none')}"
