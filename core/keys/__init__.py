"""Tenants and their API keys. A key is shown once, when it is made; only its hash is kept."""

from core.keys.identity import PREFIX, SCOPES, Identity, authenticate, create_key, digest
from core.keys.local import ensure_local_key
from core.keys.tables import ApiKey, BrowserSession, Tenant

__all__ = [
    "PREFIX",
    "SCOPES",
    "ApiKey",
    "BrowserSession",
    "Identity",
    "Tenant",
    "authenticate",
    "create_key",
    "digest",
    "ensure_local_key",
]
