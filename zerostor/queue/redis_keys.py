"""Every Redis key, group and bound of the queue, and what stands under it.

PREFIX = {zerostor}   the braces are a Cluster hash tag: all keys live on one shard, so that
                      one script may touch several of them
PREFIX:jobs           stream of queued and claimed jobs; an entry is deleted when finished.
                      Fields: j = job, n = deliveries before this entry (absent: 0),
                      s = spool that has the upload (absent: not said)
PREFIX:delayed        sorted set job -> due time, server epoch milliseconds
PREFIX:events         capped stream of updates; field u = JobUpdate as JSON
PREFIX:job:JOB        string "WHERE DELIVERIES SPOOL JSON", expires. WHERE: the id of the job's
                      entry in the stream, "delayed", "done", or "lost" when only a note is known;
                      SPOOL may be empty, and written before there were several its space lacks
PREFIX:results        list of jobs in the order they ended, so that the oldest can be dropped
PREFIX:alive          sorted set worker -> end of its heartbeat, server epoch milliseconds
PREFIX:spools         sorted set "SPOOL PLACE" -> when it was last announced, epoch milliseconds
PREFIX:role:ROLE      who has it, expires
PREFIX:login:LOGIN    a login that was used at one of several gateways, expires
PREFIX:logins-since   there since the server last lost everything; its age is in its expiry
PREFIX:revoked        sorted set of revocations (core/sessions.py) -> until they matter, epoch ms
PREFIX:asks           sorted set "METADATA-ID JOB" -> spare; JOB is empty where nobody polls
PREFIX:ask-reasons    hash of the same names -> reason
PREFIX:ask-bell       list of one, there once something was asked since it was last heard
PREFIX:commands       list of "NAME BODY" for the keeper, expires
PREFIX:state:NAME     what was published under a name, expires
PREFIX:ping           written by `ping`
"""

from __future__ import annotations

GROUP = "workers"
EVENTS_MAX = 20_000
"""Updates kept for watchers that were away; about 3 MB."""
RESULTS_MAX = 100_000
"""Results kept at most, about 30 MB; older ones are still in the spool's receipts."""

SPOOLS_KEEP = 24 * 3600
"""Seconds for which a gateway that is gone is known by its address."""
SPOOLS_MAX = 1024


class QueueKeys:
    """The key names under one prefix."""

    def __init__(self, prefix: str) -> None:
        root = "{" + prefix + "}"
        self.jobs = f"{root}:jobs"
        self.delayed = f"{root}:delayed"
        self.events = f"{root}:events"
        self.results = f"{root}:results"
        self.alive = f"{root}:alive"
        self.spools = f"{root}:spools"
        self.ping = f"{root}:ping"
        self.role_prefix = f"{root}:role:"
        self.job_prefix = f"{root}:job:"
        self.login_prefix = f"{root}:login:"
        self.logins_since = f"{root}:logins-since"
        self.revoked = f"{root}:revoked"
        self.asks = f"{root}:asks"
        self.ask_reasons = f"{root}:ask-reasons"
        self.ask_bell = f"{root}:ask-bell"
        self.commands = f"{root}:commands"
        self.events = f"{root}:events"
        self.state_prefix = f"{root}:state:"

    def role(self, role: str) -> str:
        """The key that names who has a role."""
        return f"{self.role_prefix}{role}"

    def login(self, login: str) -> str:
        """The key of a login that was used."""
        return self.login_prefix + login

    def state(self, name: str) -> str:
        """The key of what was published under a name."""
        return self.state_prefix + name

    def job(self, job: str) -> str:
        """The key of what is known of one job."""
        return self.job_prefix + job
