"""Who may ask for what, for the OpenAPI document: credentials, and how they are refused."""

from __future__ import annotations

from gateway.api_schemas import Json

SCHEMES: dict[str, Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description":
               "The gateway's secret, or what POST /api/authenticate answered."},
    "secret": {"type": "apiKey", "in": "query", "name": "secret", "description":
               "The same, for clients that can send no header."},
}
DENIED = {
    401: "`sign-in-needed`: no credential came, or one that is not good here.",
    403: "`not-allowed`: it is not the caller's own, or needs the role admin.",
    429: "`too-many-requests`: too many wrong credentials came from this address; try again after"
         " `Retry-After` seconds.",
}
