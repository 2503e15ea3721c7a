"""The routes of gateway/routes/ssh.py, for the OpenAPI document."""

from __future__ import annotations

from gateway.api_operations import Operation, Parameter, json_answer
from gateway.api_schemas import SAMPLE_JOB, Json, ref, string
from zerostor.core.limits import LISTED, LISTED_MAX

_REFUSED = "`not-allowed`: only programs on the gateway's host may ask this (`ssh.admin`)."
_AWAY = "`homes-away`: the SSH process does not answer."
_OFF = "`ssh-off`: no SSH process by the settings."
_UNKNOWN = "`unknown-home`: no such user; or `ssh-off`."
_BAD = "`bad-request`: the body cannot be understood, or the key is not taken, and why."
_USER = Parameter("user", "path", "The name of the home.", string(), "anna")
_LIMIT = Parameter("limit", "query", "How many, the newest first.",
                   {"type": "integer", "minimum": 1, "maximum": LISTED_MAX, "default": LISTED})
_JSON = "-H 'Content-Type: application/json' -d "


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


SSH_OPERATIONS = (
    Operation(
        "post", "/api/ssh/enable", "sshEnable", "ssh", "Make a home, add a key, change a limit",
        "What is left out stays as it is. Who gets a key in may use sftp, scp, rsync and sshfs at"
        " once; there is no shell. Idempotent.",
        {200: json_answer("The home as it is now.", "HomeEnabled"), 400: _BAD, 403: _REFUSED,
         404: _OFF, 413: "`too-large`: more than 64 KiB.", 503: _AWAY},
        (), _JSON + "'{\"username\": \"anna\", \"sshpubkey\": \"ssh-ed25519 AAAA...\","
        " \"max_size_mb\": 5000}' '{base}/api/ssh/enable'", _body("EnableHome")),
    Operation(
        "post", "/api/ssh/disable", "sshDisable", "ssh", "Revoke a key, or close a home",
        "Its sessions end at once. The files stay, unless `delete_files` is said: then the home is"
        " taken away for good; what was stored from it stays.",
        {200: json_answer("The home as it is now.", "HomeDisabled"), 400: _BAD, 403: _REFUSED,
         404: _UNKNOWN, 413: "`too-large`: more than 64 KiB.", 503: _AWAY},
        (), _JSON + "'{\"username\": \"anna\"}' '{base}/api/ssh/disable'", _body("DisableHome")),
    Operation(
        "post", "/api/ssh/process", "sshProcess", "ssh", "Store a file or folder of a home",
        "A file as it is, a folder as tar.gz. The answer means that the job survives a power cut;"
        " its status is asked like that of an upload.",
        {202: json_answer("On its way.", "Accepted",
                          {"job": SAMPLE_JOB, "status": f"/api/status/{SAMPLE_JOB}"}),
         400: _BAD, 403: _REFUSED, 404: "`not-found`: no such path; or `unknown-home`, `ssh-off`.",
         413: "`too-large`: more than 64 KiB.",
         503: "`busy`: too many jobs of this user wait; or `homes-away`."},
        (), _JSON + "'{\"user\": \"anna\", \"path\": \"/photos\", \"remove\": true}'"
        " '{base}/api/ssh/process'", _body("ProcessPath")),
    Operation(
        "get", "/api/ssh/homes", "sshHomes", "ssh", "List the homes",
        "And where the SSH server is. A home that is still being counted has no `used`.",
        {200: json_answer("All of them.", "Homes"), 403: _REFUSED, 404: _OFF, 503: _AWAY},
        (), "'{base}/api/ssh/homes'"),
    Operation(
        "get", "/api/ssh/size/{user}", "sshSize", "ssh", "How full is a home?", "In bytes.",
        {200: json_answer("What it uses.", "HomeSize"), 403: _REFUSED, 404: _UNKNOWN, 503: _AWAY},
        (_USER,), "'{base}/api/ssh/size/anna'"),
    Operation(
        "get", "/api/ssh/links/{user}", "sshLinks", "ssh", "What was stored from a home",
        "The newest first.",
        {200: json_answer("Its links.", "HomeLinks"), 400: _BAD, 403: _REFUSED, 404: _UNKNOWN,
         503: _AWAY},
        (_USER, _LIMIT, Parameter("before", "query", "Only links before this `number`: the next"
                                  " page.", {"type": "integer", "minimum": 0})),
        "'{base}/api/ssh/links/anna?limit=10'"),
    Operation(
        "get", "/api/ssh/events/{user}", "sshEvents", "ssh", "What happened in a home by itself",
        "Files removed for room, jobs that ended, files that were kept. The newest first.",
        {200: json_answer("Its events.", "HomeEvents"), 400: _BAD, 403: _REFUSED, 404: _UNKNOWN,
         503: _AWAY},
        (_USER, _LIMIT), "'{base}/api/ssh/events/anna'"),
)
