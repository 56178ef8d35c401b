"""Commands of an operator for tenants: on the service's database, since no key reaches beyond its own tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from client.commands.keys import Expires, KeyId, Scopes, shown_once, told_revoked, wish
from client.commands.operations import service_database
from client.options import Data, Json, print_json, show
from client.tables import tenants_table

app = typer.Typer(
    no_args_is_help=True, help="For operators: tenants, and keys for those that have none (any more)."
)

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]


@app.command(epilog="Example: slaegan tenants create acme")
def create(tenant: Name, *, as_json: Json = False, data: Data = None) -> None:
    """Make a tenant, and print the token of its first key, with all scopes, to stdout, this once."""
    wish(tenant, ["read"], None)  # what may name a key may name a tenant
    with service_database(data) as session:
        from core.keys import operators  # noqa: PLC0415  # not in a client-only install

        key, token = operators.create_tenant(session, tenant)
    shown_once(token, key.id, as_json=as_json)


@app.command("list", epilog="Example: slaegan tenants list")
def list_tenants(*, as_json: Json = False, data: Data = None) -> None:
    """List all tenants."""
    with service_database(data) as session:
        from core.keys import operators  # noqa: PLC0415  # not in a client-only install

        found = operators.tenants(session)
    if as_json:
        print_json(found)
    else:
        show(tenants_table(found))


@app.command("key", epilog="Example: slaegan tenants key acme --name rescue")
def create_key(
    tenant: Name,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "made by an operator",
    scopes: Scopes = None,
    expires: Expires = None,
    *,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Make another key for a tenant, by default with all scopes, and print its token to stdout, this once."""
    wanted = wish(name, scopes or ["read", "write", "admin"], expires)
    with service_database(data) as session:
        from core.keys import operators  # noqa: PLC0415  # not in a client-only install

        key, token = operators.create_key_for(
            session, tenant, name=wanted.name, scopes=wanted.scopes, expires_at=wanted.expires_at
        )
    shown_once(token, key.id, as_json=as_json)


@app.command("revoke", epilog="Example: slaegan tenants revoke 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def revoke_key(key_id: KeyId, *, as_json: Json = False, data: Data = None) -> None:
    """End any tenant's key, also its last one."""
    with service_database(data) as session:
        from core.keys import operators  # noqa: PLC0415  # not in a client-only install

        operators.revoke_key(session, key_id)
    told_revoked(key_id, as_json=as_json)
