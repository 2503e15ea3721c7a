"""The one entry point: `zerostor`. A command is loaded when it is asked for: start-up is quick."""

from __future__ import annotations

import difflib
import importlib
import importlib.util

import click

from zerostor import __version__
from zerostor.core.errors import RequestError, ZerostorError

COMMANDS = {
    "up": "gateway.commands.up",
    "put": "gateway.commands.put",
    "get": "gateway.commands.get",
    "status": "gateway.commands.status",
    "exists": "gateway.commands.exists",
    "check": "gateway.commands.check",
    "repair": "gateway.commands.repair",
    "rm": "gateway.commands.rm",
    "restore": "gateway.commands.restore",
    "quarantine": "gateway.commands.quarantine",
    "scrub": "gateway.commands.scrub",
    "stores": "gateway.commands.stores",
    "jobs": "gateway.commands.jobs",
    "events": "gateway.commands.events",
    "config": "gateway.commands.config",
    "promote": "gateway.commands.promote",
    "compare": "gateway.commands.compare",
    "recover": "gateway.commands.recover",
    "mend": "gateway.commands.mend",
    "gateway": "gateway.commands.gateway",
    "worker": "gateway.commands.worker",
    "keeper": "gateway.commands.keeper",
    "ssh": "gateway.commands.ssh",
    "nodes": "gateway.commands.nodes",
    "node": "gateway.commands.node",
    "telemetry": "gateway.commands.telemetry",
    "zdb": "gateway.commands.zdb",
    "redis": "gateway.commands.redis",
    "ssh-enable": "gateway.commands.ssh_enable",
    "ssh-disable": "gateway.commands.ssh_disable",
    "ssh-process": "gateway.commands.ssh_process",
    "ssh-size": "gateway.commands.ssh_size",
    "ssh-links": "gateway.commands.ssh_links",
    "ssh-events": "gateway.commands.ssh_events",
    "keygen": "gateway.commands.keygen",
    "keys": "gateway.commands.keys",
    "login": "gateway.commands.login",
    "logout": "gateway.commands.logout",
    "sessions": "gateway.commands.sessions",
    "audit": "gateway.commands.audit",
    "bench": "gateway.bench.command",
    "completion": "gateway.commands.completion",
}

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


class Failure(click.ClickException):
    """What went wrong, as one line on stderr; exit code 1."""

    def show(self, file: object = None) -> None:  # noqa: ARG002
        """Print it."""
        click.echo(f"zerostor: {self.message}", err=True)


class Misuse(Failure):
    """What was asked for cannot be understood."""

    exit_code = 2


class Commands(click.Group):
    """A group that imports a command's module only when that command is named or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of use."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """The command, or None if there is none of that name."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        try:
            command = importlib.import_module(module).command
        except ModuleNotFoundError as error:
            if error.name is not None and module.startswith(error.name):
                return None
            raise
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not close or "did you mean" in error.message.lower():
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]}?", ctx) from error

    def invoke(self, ctx: click.Context) -> object:
        """Run, and turn the errors that zerostor raises on purpose into one line."""
        try:
            return super().invoke(ctx)
        except ZerostorError as error:
            kind = Misuse if isinstance(error, RequestError) else Failure
            raise kind(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 used wrongly, 130 Ctrl-C."
    " `zerostor COMMAND --help` has examples.",
)
@click.version_option(__version__, prog_name="zerostor", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep files for good: each is cut into 16 + 4 shards on 20 stores, and any 16 bring it back.

    \b
    zerostor up                start everything here, data in ./data
    zerostor put photo.jpg     store a file; prints its permanent link
    zerostor get LINK          fetch it back, verified
    """


def main() -> None:
    """Run the command line."""
    cli(prog_name="zerostor")
