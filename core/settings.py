"""The only reader of the environment. Times are seconds, sizes bytes."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import platformdirs
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, IPvAnyNetwork, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 1024 * 1024
MIN_METRICS_TOKEN = 16


def _items(text: object) -> object:
    return tuple(text.replace(",", " ").split()) if isinstance(text, str) else text


def _host(name: str) -> str:
    return name.lower().rstrip(".")


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#*@\s]+", text):
        raise ValueError(f"{text!r} is no origin: write https://example.org, without a path or wildcard")
    return text


# In the environment these are words between commas or spaces.
Names = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(_items)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_items)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_items)]


def _long_enough(token: SecretStr) -> SecretStr:
    if 0 < len(token.get_secret_value()) < MIN_METRICS_TOKEN:
        raise ValueError(
            f"a token of fewer than {MIN_METRICS_TOKEN} characters can be guessed: make a longer one"
        )
    return token


class Settings(BaseSettings):
    """Every knob of the service; each can be set by SLAEGAN_<NAME>, the three URLs by their plain names."""

    model_config = SettingsConfigDict(
        env_prefix="SLAEGAN_", frozen=True, extra="ignore", populate_by_name=True
    )

    database_url: str = Field(validation_alias="DATABASE_URL", description="postgresql+psycopg://…")
    broker_url: str = Field(
        validation_alias="BROKER_URL", description="redis://host/0 or unix:///path/to/socket"
    )
    storage_url: str = Field(
        validation_alias="STORAGE_URL", description="file:///folder, s3://bucket/prefix …"
    )
    data_dir: Path = Field(Path("data"), description="Scratch space and caches of this machine")
    weights_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("slaegan") / "weights",
        description="Pretrained weights, verified by hash",
    )

    host: str = Field("127.0.0.1", description="Anything but loopback needs a live key in the database")
    port: int = 8000
    allowed_hosts: Names = Field(
        (),
        description="Host headers that are answered, *.example.org for all below; by default localhost and host",
    )
    trusted_proxies: Networks = Field((), description="Networks whose X-Forwarded-* headers are believed")
    cors_origins: Origins = Field(
        (), description="Origins whose pages may call the API: https://example.org …"
    )
    hsts_s: int = Field(0, ge=0, description="Strict-Transport-Security over TLS; 0: none")
    max_connections: int = Field(1_000, ge=1, description="Of one process, event streams included")
    head_timeout_s: float = Field(
        10, gt=0, description="From a request's first byte to the end of its headers"
    )
    body_timeout_s: float = Field(30, gt=0, description="The longest pause in a body")
    write_timeout_s: float = Field(60, gt=0, description="How long a client may leave an answer unread")
    min_bytes_per_s: int = Field(
        500, ge=0, description="Of a body, over its whole time; of an answer, over each write timeout"
    )
    store_reserve_bytes: int = Field(
        256 * MIB, description="Writes to a local store stop before less than this is free"
    )
    signed_urls: bool = Field(
        True,
        description="Whether downloads are sent to the object store; false where clients do not reach it",
    )
    signed_url_s: int = Field(300, ge=1, le=604_800, description="How long such an address may be used")
    max_body_bytes: int = Field(1 * MIB, description="Of a JSON request")
    max_picture_body_bytes: int = Field(
        17 * MIB, description="Of a JSON request that may hold a picture, a third larger in base64"
    )
    max_upload_bytes: int = Field(1024 * MIB, description="Of one dataset upload")
    upload_expires_s: float = Field(
        86_400, gt=0, description="How long a resumable upload stays with which nothing is done"
    )
    max_open_uploads: int = Field(32, ge=1, description="Resumable uploads of one tenant at a time")
    max_open_upload_bytes: int = Field(4096 * MIB, ge=0, description="Of all of a tenant's resumable uploads")
    max_archive_entries: int = Field(
        10_000,
        ge=1,
        le=99_999,
        description="Of one upload: its files and its archives' entries; file names have five digits",
    )
    max_dataset_images: int = Field(
        20_000, ge=4, le=99_999, description="Of a version that grew; file names have five digits"
    )
    max_picture_bytes: int = 64 * MIB
    max_picture_pixels: int = 64_000_000
    decode_memory_bytes: int = Field(
        2048 * MIB, description="Address space of the process that decodes pictures; libraries count"
    )
    decode_timeout_s: float = Field(60, gt=0, description="For one picture")
    decode_budget_s: float = Field(600, gt=0, description="For one upload, beside half a second a picture")
    max_unpacked_bytes: int = Field(4096 * MIB, description="Of all archives of one upload")
    max_unpack_ratio: int = Field(200, description="Unpacked size over packed size of an archive's entry")
    max_cache_bytes: int = Field(
        20 * 1024 * MIB, description="Of datasets' pictures kept on a worker's machine between jobs"
    )
    key_cache_s: float = Field(
        2, ge=0, description="How long a key goes on opening the API after another process has revoked it"
    )
    requests_per_minute: int = Field(6_000, description="Of one key; an unkeyed address gets a hundredth")
    key_uses_every_s: float = Field(60, description="How often the API writes when keys were last used")

    metrics_token: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""),
        description=f"What Prometheus sends for /metrics, at least {MIN_METRICS_TOKEN} characters; without one only "
        "this machine gets it",
    )
    otlp_endpoint: str = Field(
        "",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Where spans go; without one nothing is traced",
    )
    otel_service_name: str = Field("", validation_alias="OTEL_SERVICE_NAME")
    log_format: Literal["text", "json"] = Field("text", description="Of the services' own logs")

    stream_poll_s: float = Field(
        0.25, description="How often the API looks for events that its streams wait for"
    )
    stream_heartbeat_s: float = Field(15, description="A silent stream gets a comment this often")
    stream_key_check_s: float = Field(
        10, gt=0, description="How long a stream goes on telling after its key was revoked or has expired"
    )
    max_streams: int = Field(100, ge=1, description="Open streams of one tenant, in one process of the API")

    log_chunk_lines: int = Field(
        1_000, ge=1, description="Lines of a job's log in the database before they leave for the store"
    )
    max_log_lines: int = Field(
        20_000, ge=2, description="Of one job, in the store; what exceeds them is cut from the middle"
    )

    lease_s: float = 60
    heartbeat_s: float = 10
    sweep_s: float = 5
    poll_s: float = Field(1, description="How often a supervisor looks at its row for cancel")
    stop_s: float = Field(20, description="How long a child may take to save after SIGTERM")
    kill_s: float = Field(5, description="How long a cancelled child may take to end after SIGTERM")
    retry_pause_s: float = Field(
        10,
        description="Before a job or an evaluation is tried again whose surroundings failed; doubled each time",
    )
    webhook_poll_s: float = Field(5, description="How often the chores worker is told to look for webhooks")
    webhook_timeout_s: float = Field(10, description="Of one attempt, from the name's lookup to the answer")
    webhook_retries_s: tuple[float, ...] = Field(
        (5, 30, 120, 600, 3_600, 21_600, 86_400),
        min_length=1,
        description="Pauses after failed attempts; a failure after the last one is final",
    )
    webhook_concurrency: int = Field(32, ge=1, description="Webhooks that a chores worker sends at once")
    webhooks_per_tenant: int = Field(4, ge=1, description="Webhooks of one tenant that are under way at once")
    webhook_rotation_s: float = Field(
        86_400, description="How long a secret goes on signing beside a new one"
    )
    webhook_private_addresses: bool = Field(
        False,
        description="Whether webhooks may go to this machine and its network, which is for one user alone",
    )
    garbage_every_s: float = Field(3600, description="How often garbage is collected")
    garbage_grace_s: float = Field(
        86_400,
        description="Younger files without a row stay; longer than an upload, and than anybody keeps a lease",
    )
    audit_days: int = Field(365, ge=90, description="Older entries of the audit trail are garbage")
    garbage_limit: int = Field(
        1_000, ge=1, description="Things of one kind that a run removes; then other chores have their turn"
    )
    max_infrastructure_failures: int = 5
    max_evaluation_attempts: int = Field(3, description="Also of a generation or an export")
    train_module: str = Field(
        "worker.train_process", description="Started as the training child; speaks as worker.child says"
    )
    evaluate_module: str = Field("worker.evaluate_process", description="As train_module, of an evaluation")
    render_module: str = Field(
        "worker.render_process", description="Started as the child that generates and exports; it stays"
    )
    render_idle_s: float = Field(
        600, gt=0, description="A child that generates ends when nothing was asked of it for so long"
    )
    render_timeout_s: float = Field(
        1_800, gt=0, description="Of one generation or export; then its child is killed, and it fails"
    )
    max_waiting_renderings: int = Field(
        100, ge=1, description="Generations and exports of one tenant that wait or run"
    )
    generation_keep_s: float = Field(
        7 * 86_400,
        gt=0,
        description="How long generations and exports stay that are done; longer while their checkpoint is pinned",
    )
    max_running_jobs: int = Field(0, ge=0, description="Of one tenant at a time; 0: any number")
    max_queued_jobs: int = Field(10_000, ge=0, description="Of one tenant that may wait; 0: any number")
    device: str = Field("cpu", description="Of this worker: cpu or cuda:<index>")
    worker_name: str = Field("", description="Unique among live workers; by default kind and host name")
    cuda_visible_devices: str | None = Field(None, validation_alias="CUDA_VISIBLE_DEVICES")
    commit: str = Field("", description="Git commit of this code; an image is built with it")
    threads: int = Field(0, ge=0, description="Torch threads of a child process; 0: as torch chooses")
    evaluation_threads: int = Field(
        0, ge=0, description="Torch threads of an evaluating child, beside a training; 0: as threads"
    )

    def celery_broker_url(self) -> str:
        """The broker as kombu wants it: unix sockets are redis+socket://."""
        if self.broker_url.startswith("unix://"):
            return "redis+socket://" + quote(self.broker_url.removeprefix("unix://"))
        return self.broker_url


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()  # the three URLs come from the environment
