"""`python -m core.keys`: a fresh key for the tenant `local`; the one that it printed before is revoked."""

from core.keys.local import ensure_local_key
from core.settings import settings

if __name__ == "__main__":
    print(ensure_local_key(settings().database_url))  # noqa: T201  # its purpose: a person reads the key here, once
