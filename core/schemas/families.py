"""Every family of models by its name, and the configuration of any of them."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter

from core.schemas.codes import CodesConfig
from core.schemas.dcgan import DcganConfig
from core.schemas.fastgan_baseline import FastganBaselineConfig
from core.schemas.fgan import FganConfig
from core.schemas.models import ModelOut
from core.schemas.sagan import SaganConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.stylegan2 import Stylegan2Config
from core.schemas.training import DEFAULT_FAMILY
from core.schemas.wgan import WganConfig, WganGpConfig


def _family(given: Any) -> str | None:
    """Which family a configuration is of: the default one where it does not say, None where that is no text."""
    if isinstance(given, dict):
        family = given.get("family", DEFAULT_FAMILY)
    else:
        family = getattr(given, "family", DEFAULT_FAMILY)
    return family if isinstance(family, str) else None


Config = Annotated[
    Annotated[SlaeganConfig, Tag("slaegan")]
    | Annotated[FastganBaselineConfig, Tag("fastgan_baseline")]
    | Annotated[SaganConfig, Tag("sagan")]
    | Annotated[Stylegan2Config, Tag("stylegan2")]
    | Annotated[DcganConfig, Tag("dcgan")]
    | Annotated[WganConfig, Tag("wgan")]
    | Annotated[WganGpConfig, Tag("wgan_gp")]
    | Annotated[FganConfig, Tag("fgan")]
    | Annotated[CodesConfig, Tag("codes")],
    Discriminator(
        _family,
        custom_error_type="unknown_family",
        custom_error_message="There is no such family of models: see GET /v1/models",
    ),
]
FAMILIES: dict[str, type[Config]] = {
    "slaegan": SlaeganConfig,
    "fastgan_baseline": FastganBaselineConfig,
    "sagan": SaganConfig,
    "stylegan2": Stylegan2Config,
    "dcgan": DcganConfig,
    "wgan": WganConfig,
    "wgan_gp": WganGpConfig,
    "fgan": FganConfig,
    "codes": CodesConfig,
}
_CONFIG: TypeAdapter[Config] = TypeAdapter(Config)


def parse_config(values: Any) -> Config:
    """A configuration from what was stored, sent or written down; without a family it is of the default one.

    Raises:
        ValidationError: it is of no family, or wrong for its own; places in it do not begin with the family.
    """
    kind = FAMILIES.get(_family(values) or "")
    config: Config = _CONFIG.validate_python(values) if kind is None else kind.model_validate(values)
    return config


def described(family: str) -> ModelOut:
    """What there is to tell of a family.

    Args:
        family: a name that is in `FAMILIES`.
    """
    kind = FAMILIES[family]
    title, _, description = (inspect.getdoc(kind) or family).partition(": ")
    return ModelOut(
        family=family,
        title=title,
        description=description,
        labels=kind.labels,
        source=kind.source,
        config_schema=kind.model_json_schema(),
        defaults=kind().model_dump(mode="json"),
    )
