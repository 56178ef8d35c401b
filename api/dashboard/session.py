"""Sign-in and sign-out of browsers: a key, sent once as programs send it, becomes a cookie that no script can read.

The gate has checked the key, and slows guesses down as everywhere else. What changes goes into the audit trail, like
every change that a key makes.
"""

from __future__ import annotations

from anyio import from_thread
from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from api.dashboard import cookies
from api.deps import Database, Who
from api.gate import SESSION
from core.audit import trail
from core.errors import Unauthenticated
from core.keys import browser_sessions
from core.settings import settings

router = APIRouter(include_in_schema=False)


@router.post(SESSION, status_code=204)
def sign_in(who: Who, database: Database, request: Request) -> Response:
    """Exchange the key that the request came with for a session."""
    if "authorization" not in request.headers:
        raise Unauthenticated("Sign in with an API key; a session cannot make another one.")
    token = browser_sessions.begin(database, who, lasts_s=settings().session_s)
    database.commit()
    response = Response(status_code=204)
    response.set_cookie(value=token, max_age=settings().session_s, **cookies.attributes(request.scope))
    return response


@router.delete(SESSION, status_code=204)
def sign_out(database: Database, request: Request) -> Response:
    """End the session that the request came with; twice is no error."""
    token = cookies.token_of(request.scope, Headers(scope=request.scope))
    if token is None or not browser_sessions.end(database, token):
        trail.unchanged(database)
    database.commit()
    if token is not None:
        from_thread.run_sync(request.app.state.identities.drop, token)
    response = Response(status_code=204)
    response.delete_cookie(**cookies.attributes(request.scope))
    return response
