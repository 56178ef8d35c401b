"""Following a job on the terminal: a live bar where there is one, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from client.verdict import alarm_text, fid_text
from core.errors import InfrastructureError
from core.schemas.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from uuid import UUID

    from rich.console import Console

    from client.http import SlaeGan
    from core.schemas.jobs import EventOut, JobOut

_POLL_S = 1.0
_PATIENCE_S = 120
_LINE_EVERY_S = 10
# Of an evaluation's numbers those that fit into a line; the others are in the curve.
_SAID = {"fid", "kid", "kid_sd", "precision", "recall", "lpips", "copy_rate", "fid_held_out", "kid_held_out"}


class Display(Protocol):
    """What shows a job while it runs."""

    def __enter__(self) -> object:
        """Begin to show."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        """Leave the terminal as it was."""

    def show(self, job: JobOut) -> None:
        """Show the job's present state."""

    def say(self, text: str) -> None:
        """Show a line that stays."""


class LiveDisplay:
    """A progress bar, with lines above it."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[status]:<10}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
            TextColumn("images  {task.fields[facts]}", markup=False), console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, status="", facts="")

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, job: JobOut) -> None:
        self._progress.update(
            self._task,
            completed=job.images_seen,
            total=job.total_images,
            status=job.status.value,
            facts=facts(job),
        )

    def say(self, text: str) -> None:
        self._progress.console.print(in_style(text))


class PlainDisplay:
    """A line now and then, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._shown = ""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, job: JobOut) -> None:
        if time.monotonic() >= self._next or job.status.final:
            self._next = time.monotonic() + _LINE_EVERY_S
            text = f"{job.status.value}  {job.images_seen}/{job.total_images} images  {facts(job)}"
            # What waits, or is paused, says so once.
            if text != self._shown or job.status is Status.RUNNING:
                self._shown = text
                self.say(text)

    def say(self, text: str) -> None:
        # Not wrapped: a line in a log is one line.
        self._console.print(in_style(text), soft_wrap=True)


def display_for(console: Console) -> Display:
    """The display that suits a console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def watch(
    client: SlaeGan, job_id: UUID, *, display: Display, on_poll: Callable[[], None] = lambda: None
) -> JobOut:
    """Show a job until it is over.

    Args:
        client: of the service.
        job_id: which job.
        display: where it is shown.
        on_poll: called once a poll; what it raises ends the watching.

    Returns:
        The job as it ended.

    Raises:
        InfrastructureError: the service was away for two minutes.
    """
    seen = 0
    away_since: float | None = None
    with display:
        while True:
            on_poll()
            try:
                # The state first: events that come between the two calls are shown, and the last ones too.
                job = client.job(job_id)
                for event in client.events(job_id, after=seen):
                    seen = event.seq
                    if line := describe(event):
                        display.say(line)
                away_since = None
                display.show(job)
                if job.status.final:
                    return job
            except InfrastructureError as error:
                if away_since is None:
                    away_since = time.monotonic()
                    display.say(f"{error.message} Trying again …")
                if time.monotonic() - away_since > _PATIENCE_S:
                    raise
            time.sleep(_POLL_S)


def facts(job: JobOut) -> str:
    """Alarms, speed, time left, losses, and the latest FID with its extractor."""
    parts = [f"ALARM: {alarm.kind.replace('_', ' ')}" for alarm in job.alarms]
    if job.images_per_s:
        parts.append(f"{job.images_per_s:.1f}/s")
    if job.eta_s is not None and not job.status.final:
        parts.append(f"ETA {duration(job.eta_s)}")
    if job.status is Status.RUNNING:
        parts += [f"{name} {value:.3g}" for name, value in job.losses.items()]
    if job.latest is not None and job.latest.fid is not None:
        parts.append(fid_text(job.latest))
    return "  ".join(parts)


def in_style(text: str) -> Text:
    """A line as it stands, without markup; an alarm so that nobody misses it."""
    return Text(text, style="bold red" if "ALARM" in text else "")


def duration(seconds: float) -> str:
    """Such as 1:02:03 or 4:05."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def _evaluation(event: EventOut) -> str:
    said = event.payload
    at = f"at {said.get('images_seen')} images"
    why = (said.get("error") or {}).get("message", "unknown reason")
    metrics = said.get("metrics", {})
    match event.type:
        case "evaluated":
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name in _SAID)
            return f"evaluated {at}: {numbers} ({said.get('extractor')})"
        case "backtracked":
            return f"backtracked {at}: LPIPS {metrics.get('lpips', 0):.4g}"
        case "backtracking_failed":
            return f"no backtracking {at}: {why}"
        case _:
            return f"no metrics {at}: {why}"


def describe(event: EventOut) -> str:
    """An event in a line; empty for what nobody waits for."""
    if event.type == "checkpoint":
        return ""
    return f"{event.at.astimezone():%H:%M:%S}  {_told(event)}"


def _told(event: EventOut) -> str:
    said = event.payload
    at = f"at {said.get('images_seen')} images"
    match event.type:
        case "queued":
            return _queued(said)
        case "evaluated" | "evaluation_failed" | "evaluation_skipped" | "backtracked" | "backtracking_failed":
            return _evaluation(event)
        case "alarm":
            return alarm_text(
                said.get("kind", ""), said.get("message", "without a reason"), said.get("images_seen", 0)
            )
    known = {
        "running": f"running on {said.get('worker', 'a worker')}",
        "paused": "paused: `slaegan resume` goes on where it was",
        "stopping_early": f"stopping early: {said.get('reason', 'without a reason')}",
        "resumed": f"resumed {at}",
        "checkpoint_damaged": f"checkpoint damaged {at}",
        "alarm_cleared": f"alarm cleared {at}: {said.get('kind')}",
        "warning": f"warning: {said.get('message', 'without a reason')}",
        "failed": f"failed: {said.get('message', 'unknown reason')}",
    }
    return known.get(event.type, event.type.replace("_", " "))


def _queued(said: dict[str, Any]) -> str:
    text = f"queued: {said.get('reason', '')}"
    return f"run {said['run']} {text}, from {said.get('images_seen', 0)} images" if "run" in said else text
