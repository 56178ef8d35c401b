"""The command that tells of the families of models, and what may be configured of each. It asks no service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from client.arguments import require_family
from client.options import ACCOUNT, Json, print_json, say, show
from core.schemas.families import FAMILIES, described

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from core.schemas.models import ModelOut

_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "in steps of",
}


@dataclass(frozen=True)
class Field:
    """A value of a configuration, by the name that `--set` takes.

    Args:
        default: as JSON.
        follows: whether the default depends on other values; the one that is told goes with their defaults.
    """

    name: str
    kind: str
    default: str
    follows: bool
    description: str


app = typer.Typer()


@app.command(rich_help_panel=ACCOUNT, epilog="Example: slaegan models sagan")
def models(
    family: Annotated[
        str | None, typer.Argument(help="One of the families: what may be configured of it.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the families of models, or tell every value that `slaegan train --family FAMILY --set` takes."""
    if family is not None:
        require_family(family)
    told = [described(name) for name in ([family] if family is not None else FAMILIES)]
    if as_json:
        plain = [one.model_dump(mode="json") for one in told]
        print_json(plain if family is None else plain[0])
    elif family is None:
        show(models_table(told))
    else:
        [model] = told
        say(f"{model.title}: {model.description}")
        say(f"{source_line(model)} Labels: {model.labels}.")
        show(fields_table(fields_of(model)))


def models_table(families: Iterable[ModelOut]) -> Table:
    """A family a row: its name, what becomes of labels, the paper, what it is."""
    table = Table("family", "title", "labels", "paper", "what it is", box=None)
    for model in families:
        paper = f"{model.source.arxiv or model.source.authors} ({model.source.year})"
        cells = (model.family, model.title, model.labels, paper, model.description)
        table.add_row(*map(Text, cells))
    return table


def source_line(model: ModelOut) -> str:
    """The paper in a sentence."""
    source = model.source
    where = f", arXiv {source.arxiv}" if source.arxiv is not None else ""
    return f"{source.authors}, “{source.title}”, {source.year}{where}."


def fields_table(fields: Iterable[Field]) -> Table:
    """A value a row."""
    caption = "* depends on other values; here with their defaults. null is none, or off."
    table = Table("field", "type", "default", "what it is", box=None, caption=caption, padding=(0, 2, 0, 0))
    for field in fields:
        default = f"{field.default} *" if field.follows else field.default
        table.add_row(*map(Text, (field.name, field.kind, default, field.description)))
    return table


def fields_of(model: ModelOut) -> list[Field]:
    """Every value of a family's configuration, those of nested parts under their names with dots."""
    return list(_fields(model.config_schema, model.defaults, parts=model.config_schema.get("$defs", {})))


def _fields(
    schema: Mapping[str, Any], defaults: Mapping[str, Any], *, parts: Mapping[str, Any], prefix: str = ""
) -> Iterator[Field]:
    for name, told in schema["properties"].items():
        default = defaults[name]
        if "$ref" in told:
            part = parts[told["$ref"].rpartition("/")[2]]
            yield from _fields(part, default, parts=parts, prefix=f"{prefix}{name}.")
            continue
        yield Field(
            name=f"{prefix}{name}",
            kind=kind_of(told),
            default=json.dumps(default),
            # The schema has no default where a function of other values makes it; an empty object is made anew.
            follows="default" not in told and "const" not in told and default != {},
            description=told.get("description", ""),
        )


def kind_of(told: Mapping[str, Any]) -> str:
    """The type of a value in words, from its JSON Schema."""
    match told:
        case {"anyOf": [*kinds]}:
            return " or ".join(map(kind_of, kinds))
        case {"const": value}:
            return json.dumps(value)
        case {"enum": [*values]}:
            return " | ".join(str(value) for value in values)
        case {"type": "array", "items": items}:
            return f"list of {kind_of(items)}"
        case {"type": "object"}:
            return "object"
    limits = [f"{words} {json.dumps(told[limit])}" for limit, words in _LIMITS.items() if limit in told]
    return ", ".join([told["type"], *limits])
