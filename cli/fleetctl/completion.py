"""fleetctl completion."""

import click

from cli.completion.scripts import SHELLS, script_of
from cli.options import examples

_INSTALL = """\b
For every shell from now on, write it to:
  bash  ~/.local/share/bash-completion/completions/fleetctl
  zsh   ~/.zfunc/_fleetctl, with fpath+=~/.zfunc before compinit in ~/.zshrc
  fish  ~/.config/fish/completions/fleetctl.fish
bash looks there if its package bash-completion is installed."""


@click.command(
    epilog=examples(
        'eval "$(fleetctl completion bash)"   # for this shell; or in ~/.bashrc',
        'eval "$(fleetctl completion zsh)"    # after compinit; or in ~/.zshrc',
        "fleetctl completion fish | source    # or in ~/.config/fish/config.fish",
    )
    + f"\n\n{_INSTALL}"
)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(SHELLS), required=False)
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> None:
    """Print the script that completes fleetctl's command lines in a shell.

    It completes commands, flags and their values, the units and machines of the cluster, and the
    unit files of the folder. The cluster is the one that the flags on the line and the variables
    say; one that does not answer within a second is passed over.
    """
    if shell is None:
        raise click.UsageError("for which shell: bash, zsh or fish?", ctx)
    click.echo(script_of(shell), nl=False)
