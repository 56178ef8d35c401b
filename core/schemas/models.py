"""What the service tells of a family of models, beside what a user may configure of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Labels = Literal["ignored", "taken", "needed"]


class Source(BaseModel):
    """The paper that a family is from."""

    model_config = ConfigDict(frozen=True)

    title: str
    authors: str
    year: int = Field(description="On arXiv where it is there, else of publication")
    arxiv: str | None = Field(None, pattern=r"^\d{4}\.\d{4,5}$", description="Its id; null: it is not there")


class ModelOut(BaseModel):
    """A model family, where it is from, and the JSON Schema of its configuration."""

    family: str
    title: str
    description: str
    labels: Labels = Field(
        description="What becomes of the classes of a dataset that has them. ignored: nothing; taken: they are learnt "
        "where the configuration has `conditional`; needed: always, and a dataset without them is refused"
    )
    source: Source
    config_schema: dict[str, Any]
    defaults: dict[str, Any]
