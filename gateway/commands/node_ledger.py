"""`zerostor node ledger`."""

from __future__ import annotations

from urllib.parse import urlencode

import click

from gateway.commands.options import json_option, print_json, server_option
from gateway.commands.tables import print_table, second
from gateway.http_client import Client
from zerostor.core.limits import LISTED, LISTED_MAX


@click.command("ledger", short_help="See what owners of nodes earned.")
@click.option("--lines", is_flag=True, help="The newest lines of the ledger instead.")
@click.option("--owner", default="", help="With --lines: of this owner only.")
@click.option("--limit", type=click.IntRange(1, LISTED_MAX), default=LISTED, show_default=True,
              help="With --lines: how many.")
@json_option
@server_option
def command(lines: bool, owner: str, limit: int, as_json: bool, client: Client) -> None:
    """Show by owner: copies written, failed and lost, held now, and the tokens that they earned.

    \b
    Examples:
      zerostor node ledger
      zerostor node ledger --lines --owner anna
    """
    query = {"lines": "1", "owner": owner, "limit": str(limit)} if lines else {}
    answer = client.ask(f"/api/nodes/ledger?{urlencode(query)}")
    if as_json:
        print_json(answer)
    elif lines:
        print_table(["when", "owner", "node", "what", "tokens", "chunk"], [
            [second(line["at"]), line["owner"],
             line["node"], line["kind"], line["tokens"], line["chunk"]]
            for line in answer.get("lines") or []])
    else:
        print_table(["owner", "attempts", "good", "failed", "lost", "chunks", "chunk-hours",
                     "available", "factor", "tokens"], [
            [one["owner"], one["attempts"], one["successes"], one["failures"], one["lost"],
             one["chunks"], f"{one['hours']:.1f}", f"{one['availability']:.0%}",
             f"{one['factor']:.2f}", one["tokens"]] for one in answer.get("owners") or []])
