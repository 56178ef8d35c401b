"""What is common to all that a client sends as JSON."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

_NUMBERS = {int, float}


def _is_no_number_for_a_time(value: Any) -> Any:
    if isinstance(value, int | float) or (isinstance(value, str) and not re.match(r"\d{4}-", value)):
        raise PydanticCustomError(
            "datetime_type", "Input should be a date and time in ISO 8601 with a zone: 2026-03-01T12:00:00Z"
        )
    return value


# A time that a client sends; seconds since 1970 are taken for none.
Moment = Annotated[AwareDatetime, BeforeValidator(_is_no_number_for_a_time)]


class Frozen(BaseModel):
    """Immutable, and an unknown key is an error rather than a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sent(BaseModel):
    """No fields but the known; and a number is one, so 8 or 8.0, but neither "8" nor true, as the document says."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_text_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool | str | bytes) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            if _NUMBERS & {annotation, *get_args(annotation)}:
                raise PydanticCustomError(
                    "number_type", "Input should be a number, neither text nor true or false"
                )
        return value
