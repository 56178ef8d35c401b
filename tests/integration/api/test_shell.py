"""What every answer carries, for whom the service answers, and whom it believes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.integration.api.conftest import CLIENT, new_person, problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.integration.api.conftest import Api

    Make = Callable[..., AbstractContextManager[Api]]

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def test_every_answer_carries_the_security_headers(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person, httpx.Client(base_url=api.url, **CLIENT) as nobody:
        answers = [person.get(path) for path in ("/v1/jobs", "/v1/nope", "/healthz", "/openapi.json")]
        answers += [nobody.get("/v1/jobs"), nobody.get("/v1/jobs", headers={"Host": "evil.example"})]
        answers += [person.head("/v1/jobs"), person.put("/v1/jobs"), person.post("/v1/jobs", content=b"{")]
        codes = [200, 404, 200, 200, 401, 421, 200, 405, 415]
        assert [answer.status_code for answer in answers] == codes
        for answer in answers:
            headers = answer.headers
            assert headers["content-security-policy"] == NOTHING
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "camera=()" in headers["permissions-policy"]
            # What has an ETag may be kept, and is asked for again each time.
            assert headers["cache-control"] == ("private, no-cache" if "etag" in headers else "no-store")
            assert len(headers.get_list("x-request-id")) == 1
            assert not {"strict-transport-security", "access-control-allow-origin", "server"} & set(headers)


def test_the_page_of_the_document_runs_nothing_but_files_of_this_service(own_api: Make) -> None:
    with own_api() as api, httpx.Client(base_url=api.url, **CLIENT) as client:
        page = client.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "default-src 'none'" in policy
        assert re.findall(r"<script(?! src=)[^>]*>|<style|\sstyle=|\son[a-z]+=", page.text) == [], (
            "nothing is inline"
        )
        addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
        assert len(addresses) == 4
        for address in addresses:
            got = client.get(address)
            assert (got.status_code, got.headers["cache-control"]) == (200, "public, max-age=3600")
            assert got.headers["content-type"].partition(";")[0] in {
                "text/javascript",
                "text/css",
                "image/png",
            }
            assert got.headers["content-security-policy"] == NOTHING
        assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text


def test_a_page_that_rebinds_its_name_to_this_service_gets_nothing(own_api: Make) -> None:
    with own_api() as api, new_person(api) as person:
        for host in (
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[evil]",
        ):
            problem(person.get("/v1/jobs", headers={"Host": host}), 421, "misdirected")
        for host in ("localhost", "LOCALHOST:1234", "localhost.", "127.0.0.1", "[::1]:8000", "10.1.2.3"):
            assert person.get("/v1/jobs", headers={"Host": host}).status_code == 200, host
        assert person.get("/healthz", headers={"Host": "whatever"}).status_code == 200, (
            "probes name what they like"
        )


def test_hosts_are_configured(own_api: Make) -> None:
    with own_api(allowed_hosts="gan.example.org, *.lab.example") as api, new_person(api) as person:
        for host, status in [
            ("gan.example.org:443", 200), ("a.lab.example", 200), ("lab.example", 421), ("xlab.example", 421),
            ("localhost", 421), ("127.0.0.1", 200),
        ]:  # fmt: skip
            assert person.get("/v1/jobs", headers={"Host": host}).status_code == status, host


def test_pages_of_other_origins_may_call_only_if_they_are_named(own_api: Make) -> None:
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    with own_api(cors_origins="https://lab.example") as api, new_person(api) as person:
        ours = {"Origin": "https://lab.example"}
        allowed = httpx.options(api.url.join("/v1/jobs"), headers=ours | asks, **CLIENT)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ours["Origin"])
        # Resumable uploads ask by HEAD where to go on.
        head = asks | {"Access-Control-Request-Method": "HEAD"}
        assert httpx.options(api.url.join("/v1/uploads/1"), headers=ours | head, **CLIENT).status_code == 200
        got = person.get("/v1/jobs", headers=ours)
        assert got.headers["access-control-allow-origin"] == ours["Origin"]
        assert "Idempotency-Replayed" in got.headers["access-control-expose-headers"]
        assert "RateLimit-Remaining" in got.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in got.headers
        refused = httpx.get(api.url.join("/v1/jobs"), headers=ours, **CLIENT)
        assert problem(refused, 401, "unauthenticated")
        assert refused.headers["access-control-allow-origin"] == ours["Origin"], "a page may read why"
        for origin in ("https://evil.example", "https://lab.example.evil", "http://lab.example", "null"):
            other = httpx.options(api.url.join("/v1/jobs"), headers={"Origin": origin} | asks, **CLIENT)
            assert other.status_code == 400
            assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("trusted", ["", "10.0.0.0/8", "127.0.0.0/8"])
def test_forwarded_headers_are_believed_from_trusted_proxies_only(trusted: str, own_api: Make) -> None:
    """The rate of an address tells whom the service took for the client, and HSTS which scheme it saw."""
    values = {
        "requests_per_minute": 100,
        "hsts_s": 600,
        "allowed_hosts": "gan.example",
        "trusted_proxies": trusted,
    }
    believed = trusted == "127.0.0.0/8"
    with own_api(**values) as api, httpx.Client(base_url=api.url, **CLIENT) as client:

        def ask(address: str, **headers: str) -> httpx.Response:
            return client.get("/v1/jobs", headers={"X-Forwarded-For": address, **headers})

        first = [ask(f"203.0.113.{i}").status_code for i in range(5)]
        assert (429 not in first) == believed
        # What a client wrote itself stands to the left of what the proxy saw.
        forged = [ask(f"1.2.3.{i}, 198.51.100.7").status_code for i in range(5)]
        assert 429 in forged
        secure = ask("192.0.2.1", **{"X-Forwarded-Proto": "https"})
        assert ("strict-transport-security" in secure.headers) == believed
        named = ask("192.0.2.2", **{"X-Forwarded-Host": "evil.example"})
        assert (named.status_code == 421) == believed
        named = ask("192.0.2.3", **{"X-Forwarded-Host": "gan.example", "Host": "inner"})
        assert (named.status_code == 401) == believed


def test_answers_tell_what_is_left_of_the_rate(own_api: Make) -> None:
    with own_api(requests_per_minute=200) as api, new_person(api) as person:
        told = [person.get("/v1/models").headers for _ in range(3)]
        assert [int(headers["ratelimit-remaining"]) for headers in told] == [199, 198, 197]
        assert {headers["ratelimit-limit"] for headers in told} == {"200"}
        assert all(1 <= int(headers["ratelimit-reset"]) <= 60 for headers in told)
        strangers = [httpx.get(api.url.join("/v1/models"), **CLIENT) for _ in range(3)]
        assert [answer.headers["ratelimit-remaining"] for answer in strangers] == ["1", "0", "0"]
        limited = strangers[2]
        problem(limited, 429, "rate_limited")
        assert limited.headers["retry-after"] == limited.headers["ratelimit-reset"]
