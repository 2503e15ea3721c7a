"""Who may ask for what, for the OpenAPI document: credentials, refusals, and the routes of
gateway/routes/sign_in.py.
"""

from __future__ import annotations

from gateway.api_operations import Operation, json_answer
from gateway.api_schemas import Json, array, asked, nullable, number, ref, string, struct

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
_KEY = string("^[0-9a-f]{64}$", description="An Ed25519 key, as hex.")
_ID = string("^[0-9a-f]{32}$", examples=["5f1d2a9c8b7e6f504132a4b5c6d7e8f9"])
_ROLE = string(enum=["user", "admin"])
_OFF = "`sign-in-off`: nobody signs in with a key here, by the settings."
_BAD = "`bad-request`: the body cannot be understood, and why."
_LARGE = "`too-large`: more than 64 KiB."
_SLOW = "The body did not come in time."
_BOOK = ("`backend`: the book of sessions cannot be written; `queue-unavailable`: no other gateway"
         " of the cluster can be asked.")
_SAMPLE = "-H 'Content-Type: application/json' -d "


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


SIGN_IN_OPERATIONS = (
    Operation(
        "get", "/api/pubkey", "pubkey", "sign-in", "The gateway's key",
        "Ed25519, as hex; it signs sessions. With `Accept: application/json` also which security"
        " mode it has.",
        {200: {"description": "The key.", "content": {
            "text/plain": {"schema": _KEY}, "application/json": {"schema": ref("GatewayKey")}}}},
        (), "'{base}/api/pubkey'"),
    Operation(
        "post", "/api/authenticate", "authenticate", "sign-in", "Sign in with a key",
        "The key signs the bytes `zerostor login v1`, a newline, the gateway's key as hex, a"
        " newline, and the date: epoch seconds as text, at most 5 minutes from the gateway's clock."
        " Each signature is good once. The answer is a secret that is good for a day; `zerostor"
        " login` does all this.",
        {200: json_answer("Signed in.", "SignedIn"), 400: _BAD,
         401: "`sign-in-needed`: it is not good here; or the clocks differ.", 404: _OFF,
         408: _SLOW, 413: _LARGE,
         429: "`too-many-requests`: too many that were wrong came from this address.",
         503: _BOOK},
        (), _SAMPLE + "'{\"key\": \"...\", \"date\": \"1795300000\", \"signature\": \"...\"}'"
        " '{base}/api/authenticate'", _body("SignIn")),
    Operation(
        "get", "/api/sessions", "sessions", "sign-in", "List sessions",
        "One's own that this gateway issued; those of all for an admin.",
        {200: json_answer("Those that are good now.", "Sessions"), 404: _OFF, 503: _BOOK},
        (), "'{base}/api/sessions'"),
    Operation(
        "post", "/api/sessions/revoke", "sessionsRevoke", "sign-in", "Revoke sessions",
        "One session, or all of a key; it holds at once, and at all gateways of the cluster within"
        " seconds. A user revokes his own.",
        {200: json_answer("They are void.", "Revoked"), 400: _BAD,
         404: "`unknown-session`: no such session of yours; or `sign-in-off`.",
         408: _SLOW, 413: _LARGE, 503: _BOOK},
        (), _SAMPLE + "'{\"session\": \"...\"}' '{base}/api/sessions/revoke'", _body("Revoke")),
)
SIGN_IN_SCHEMAS: dict[str, Json] = {
    "GatewayKey": struct(key=_KEY, security=string(enum=["public", "secret", "keys"])),
    "SignIn": struct(
        key=string("^[0-9a-fA-F]{64}$", description="The public key that signs."),
        date={"type": ["string", "integer"], "pattern": r"^[0-9]{1,12}(\.[0-9]{1,6})?$",
              "minimum": 0, "maximum": 10**12 - 1,
              "description": "Epoch seconds, as they are signed."},
        signature=string("^[0-9a-fA-F]{128}$", description="As hex.")),
    "SignedIn": struct(
        secret=string(description="Sent as Authorization: Bearer from now on."), session=_ID,
        name=string(examples=["anna"]), role=_ROLE,
        expires=number("Seconds since 1970, UTC."), key=_KEY),
    "Session": struct(
        session=_ID, key=_KEY,
        name=nullable("string", "As the list of keys has it; null of one it has no more."),
        role={"type": ["string", "null"]}, issued=number("Seconds since 1970, UTC."),
        expires=number("Seconds since 1970, UTC."),
        address=string(description="Where it was asked for from."),
        current={"type": "boolean", "description": "Whether it is the one that asks."}),
    "Sessions": struct(sessions=array(ref("Session"))),
    "Revoke": asked("session", "key", session=string("^[0-9a-fA-F]{32}$"),
                     key=string("^[0-9a-fA-F]{64}$")) | {
                        "minProperties": 1, "maxProperties": 1},
    "Revoked": struct(revoked=number("How many that this gateway knows of.", "integer")),
}
