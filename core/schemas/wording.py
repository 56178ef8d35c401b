"""What the validation library finds wrong, in words for people who do not know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.schemas.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_PART = 200
_NO_ID = "is not an id: an id looks like 6f6d2f0a-93f4-4a3e-8f37-4f6a2b1c9d22"
_NO_OBJECT = "must be an object: names with their values, in braces"
_WORDS = {
    "uuid_parsing": _NO_ID,
    "uuid_type": _NO_ID,
    "extra_forbidden": "is not known here: is it spelt right, and in the right place?",
    "missing": "is missing",
    "model_type": _NO_OBJECT,
    "dict_type": _NO_OBJECT,
}
# What a pattern of a schema allows.
_ALLOWED = {
    r"^[^\x00-\x1f\x7f]*$": "must be one line, without tabs and other control characters",
    r"^[\x21-\x7e]+$": "may have visible ASCII characters only, and no spaces",
    "^[0-9a-f]{64}$": "is not a sha256: that has 64 of the characters 0-9 and a-f",
}


def wording(error: Mapping[str, Any]) -> str:
    """What is wrong with one value; its name is to stand before that.

    Args:
        error: an entry of pydantic's `errors()`.
    """
    context = error.get("ctx", {})
    match error["type"]:
        case kind if kind in _WORDS:
            return _WORDS[kind]
        case "json_invalid":
            return f"is not JSON: {context.get('error', 'it cannot be read')}"
        case "string_pattern_mismatch" if context["pattern"] in _ALLOWED:
            return _ALLOWED[context["pattern"]]
        case "too_short":
            return f"has {context['actual_length']} items; at least {context['min_length']} are needed"
        case _:
            return _own_words(error)


def place(error: Mapping[str, Any]) -> str:
    """Where in what was sent a wrong value is, with dots; the union of configurations puts a family into it.

    Args:
        error: an entry of pydantic's `errors()`.
    """
    loc: Sequence[str | int] = error["loc"]
    parts = [
        part
        for before, part in zip(("", *loc), loc, strict=False)
        if before != "config" or part not in FAMILIES
    ]
    if error["type"] == "unknown_family":
        parts.append("family")
    return ".".join(str(part)[:MAX_PART] for part in parts)


def _own_words(error: Mapping[str, Any]) -> str:
    """The library's sentence, with the reason behind it where it lacks that."""
    reason, message = error.get("ctx", {}).get("error"), str(error["msg"])
    return message if reason is None or str(reason) in message else f"{message}: {reason}"
