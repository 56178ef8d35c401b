"""The FID curve of a job as a picture."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from core.metrics.selection import JUDGED, choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from core.schemas.jobs import Point

_NAMES = {"inception_v3": "Inception v3", "vgg16": "VGG-16"}


def draw(points: Sequence[Point], *, title: str, copy_limit: float | None) -> bytes:
    """Draw FID over images seen, one line a protocol, the best snapshot of each marked.

    Args:
        points: of one job; only those with a FID are drawn.
        title: the job's name or id.
        copy_limit: of the rule by which the best snapshot is chosen.

    Returns:
        A PNG of 960 x 540 pixels.
    """
    # The figure's own canvas, not pyplot: that one keeps figures in a global and knows no threads.
    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title.replace("$", r"\$"), fontsize=12)
    axes.set_xlabel("images seen")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.grid(alpha=0.3)
    lines: dict[str, list[Point]] = {}
    for point in points:
        if point.fid is not None:
            lines.setdefault(point.protocol_hash, []).append(point)
    extractors = sorted({_extractor(line[0]) for line in lines.values()})
    axes.set_ylabel(f"FID ({', '.join(extractors)})" if lines else "FID")
    for protocol_hash, line in lines.items():
        _draw_line(
            axes, line, label=f"{_extractor(line[0])}, protocol {protocol_hash[:8]}", copy_limit=copy_limit
        )
    if lines:
        skipped = [point.images_seen for point in points if point.status == "skipped"]
        if skipped:
            axes.plot(
                skipped, [0] * len(skipped), "x", color="grey", clip_on=False, label="not evaluated: skipped"
            )
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    else:
        axes.set_yticks([])
        axes.set_xticks([])
        axes.text(
            0.5,
            0.5,
            "No snapshot has been evaluated yet.",
            ha="center",
            va="center",
            transform=axes.transAxes,
        )
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_line(axes: Axes, line: Sequence[Point], *, label: str, copy_limit: float | None) -> None:
    seen = [point.images_seen for point in line]
    fids = [point.fid for point in line if point.fid is not None]
    axes.plot(seen, fids, marker="o", markersize=4, label=label)
    best = choose(
        [point.model_dump(include=set(JUDGED), exclude_none=True) for point in line], copy_limit=copy_limit
    )
    if best is None:
        return
    axes.annotate(
        f"best: {fids[best.index]:.1f}",
        (seen[best.index], fids[best.index]),
        textcoords="offset points",
        xytext=(0, 8),
        ha="center",
    )


def _extractor(point: Point) -> str:
    name = str(point.protocol.get("extractor", "unknown extractor"))
    return _NAMES.get(name, name)
