"""`zerostor sessions ...`."""

from __future__ import annotations

import click

from gateway.commands.options import connect, json_option, print_json, server_option
from gateway.commands.tables import moment, print_table
from gateway.http_client import Client


@click.group("sessions", short_help="Who is signed in: list, revoke.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """The sessions that `zerostor login` began: your own, and all of them for an admin.

    \b
    Examples:
      zerostor sessions ls
      zerostor sessions revoke 0f3a...
      zerostor sessions revoke --key 1f0c...     all of one person's key
    """
    if ctx.invoked_subcommand is None:
        client = connect(None)
        with client.understanding():
            _show(client, as_json=False)


@command.command("ls", short_help="List sessions.")
@json_option
@server_option
def show(as_json: bool, client: Client) -> None:
    """List sessions that are good now.

    \b
    Example:
      zerostor sessions ls
    """
    _show(client, as_json=as_json)


@command.command("revoke", short_help="End sessions before their day is over.")
@click.argument("sessions", nargs=-1)
@click.option("--key", "keys", multiple=True, help="All of this key, as `zerostor keys ls` has it.")
@json_option
@server_option
def revoke(sessions: tuple[str, ...], keys: tuple[str, ...], as_json: bool, client: Client) -> None:
    """End SESSIONS: what they opened stays shut from the next request on, here and at all gateways
    of a cluster.

    \b
    Examples:
      zerostor sessions revoke 0f3a...
      zerostor sessions revoke --key 1f0c...
    """
    if not sessions and not keys:
        raise click.UsageError("name a session, or --key")
    asked = [{"session": one} for one in sessions] + [{"key": one} for one in keys]
    count = sum(int(client.ask("/api/sessions/revoke", method="POST", body={**one})["revoked"])
                for one in asked)
    if as_json:
        print_json({"revoked": count})
    else:
        click.echo(f"{count} session{'' if count == 1 else 's'} revoked")


def _show(client: Client, *, as_json: bool) -> None:
    answer = client.ask("/api/sessions")
    if as_json:
        print_json(answer)
        return
    rows = [(one.get("session"), one.get("name") or "not known any more", one.get("role"),
             moment(one.get("issued")), moment(one.get("expires")), one.get("address"),
             "this one" if one.get("current") else "") for one in answer.get("sessions") or []]
    print_table(("SESSION", "NAME", "ROLE", "SINCE", "UNTIL", "FROM", ""), rows)

