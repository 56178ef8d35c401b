"""Fetch one pinned file from the package index that pip is configured for, and run none of its code.

`pip download` would run the sdist's setup.py to learn its metadata, so pip is asked for its configuration
only. Honoured are index-url, extra-index-url, find-links (local folders), no-index, proxy, cert and
trusted-host, from pip's files and environment; passwords inside URLs too. Keyrings, netrc and client
certificates are not: on such a network the file can be put into the weights folder by hand.
"""

from __future__ import annotations

import ast
import base64
import json
import shutil
import ssl
import subprocess
import sys
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import certifi

from core.files import sha256_of

if TYPE_CHECKING:
    from http.client import HTTPResponse

PYPI = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_TIMEOUT_S = 60


class FetchFailed(Exception):
    """No configured index gave the file with the right content; the message tells what each one said."""


def fetch(project: str, *, filename: str, sha256: str, target: Path) -> None:
    """Write the file of a project to `target`, once its sha256 was found right.

    Args:
        project: normalised name of the project on the index.
        filename: of the wanted distribution.
        sha256: of the wanted content, in hex; a file of any other content is never left at target.
        target: where to write.

    Raises:
        FetchFailed: nothing configured has it, or what it has is something else.
    """
    options = pip_options()
    refusals = []
    for source in _sources(project, filename=filename, options=options):
        try:
            _copy(source, target, options=options)
        except (OSError, ValueError) as error:
            refusals.append(f"{_without_password(source)}: {error}")
            continue
        found = sha256_of(target)
        if found == sha256:
            return
        target.unlink()
        refusals.append(f"{_without_password(source)}: its sha256 is {found}, not {sha256}")
    raise FetchFailed("; ".join(refusals) or f"no configured index knows {filename}")


def pip_options() -> dict[str, str]:
    """The options that pip would use for a download; empty where there is no pip.

    pip lets a section of the command win over [global], and the environment over both.
    """
    listing = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    sections: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in listing.stdout.splitlines():
        name, equals, value = line.partition("=")
        section, _, key = name.partition(".")
        if equals and section in sections:
            sections[section][key] = str(ast.literal_eval(value))
    return sections["global"] | sections["download"] | sections[":env:"]


def _sources(project: str, *, filename: str, options: dict[str, str]) -> list[str]:
    """Every address under which the configured places offer the file, folders first."""
    folders = [entry.removeprefix("file://") for entry in options.get("find-links", "").split()]
    found = [(Path(folder) / filename).as_uri() for folder in folders if (Path(folder) / filename).is_file()]
    if options.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return found
    for index in [*options.get("index-url", PYPI).split(), *options.get("extra-index-url", "").split()]:
        try:
            found += _listed(f"{index.rstrip('/')}/{project}/", filename=filename, options=options)
        except (OSError, ValueError):
            # An index that is down or does not know the project may be one of several: the address that the
            # file would have there is tried, and its failure reported.
            found.append(f"{index.rstrip('/')}/{project}/{filename}")
    return found


def _listed(page: str, *, filename: str, options: dict[str, str]) -> list[str]:
    """Addresses of the file on one page of the simple repository API (PEP 503 as HTML, PEP 691 as JSON)."""
    with _open(page, accept=_ACCEPT, options=options) as response:
        body = response.read()
        if "json" in response.headers.get_content_type():
            links = [(str(file["filename"]), str(file["url"])) for file in json.loads(body)["files"]]
        else:
            anchors = _Anchors()
            anchors.feed(body.decode())
            links = [(unquote(urlsplit(link).path.rpartition("/")[2]), link) for link in anchors.links]
    return [urljoin(page, url) for name, url in links if name == filename]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _copy(url: str, target: Path, *, options: dict[str, str]) -> None:
    with _open(url, accept="*/*", options=options) as response, target.open("wb") as file:
        shutil.copyfileobj(response, file, length=1 << 20)


def _open(url: str, *, accept: str, options: dict[str, str]) -> HTTPResponse:
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http", "file"}:
        raise ValueError(f"{parts.scheme or url!r} is no scheme of a package index")
    headers = {"Accept": accept, "User-Agent": "slaegan"}
    request = urllib.request.Request(_without_password(url), headers=headers)  # noqa: S310  # checked above
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    handlers: list[Any] = [urllib.request.HTTPSHandler(context=_tls(parts.hostname, options=options))]
    if proxy := options.get("proxy"):
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    opened: HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S)
    return opened


def _tls(host: str | None, *, options: dict[str, str]) -> ssl.SSLContext:
    if cert := options.get("cert"):
        return ssl.create_default_context(cafile=cert)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if host in {entry.partition(":")[0] for entry in options.get("trusted-host", "").split()}:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
