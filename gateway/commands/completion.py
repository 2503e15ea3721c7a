"""`zerostor completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print the shell's completion script.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete zerostor's commands and options.

    \b
    Examples:
      zerostor completion bash > ~/.local/share/bash-completion/completions/zerostor
      zerostor completion zsh > ~/.zfunc/_zerostor
      zerostor completion fish > ~/.config/fish/completions/zerostor.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "zerostor", "_ZEROSTOR_COMPLETE").source())
