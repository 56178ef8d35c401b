"""Curves as tables."""

from __future__ import annotations

from typing import Any

from core.schemas.jobs import Point

# What of a point is no column: it is in `client.SlaeGan.metrics`.
_LEFT_OUT = {"protocol", "picture", "error", "intra_fid_per_class", "intra_fid_classes"}
_COLUMNS = [name for name in Point.model_fields if name not in _LEFT_OUT]


def frame(points: list[Point]) -> Any:
    """A row a point: images seen, state, every metric, and the extractor and the hash of its protocol.

    Returns:
        A pandas DataFrame, or where there is no pandas, the points.
    """
    try:
        import pandas as pd  # noqa: PLC0415  # not in a plain install
    except ModuleNotFoundError:
        return points
    rows = [
        point.model_dump(mode="json", exclude=_LEFT_OUT) | {"extractor": point.protocol.get("extractor")}
        for point in points
    ]
    return pd.DataFrame(rows, columns=[*_COLUMNS, "extractor"])
