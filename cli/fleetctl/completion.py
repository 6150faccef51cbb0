"""fleetctl completion."""

import click

from cli.completion.scripts import SHELLS, script_of
from cli.options import examples

_INSTALL = """\b
To have it in every shell from now on:
  bash   fleetctl completion bash > ~/.local/share/bash-completion/completions/fleetctl
  zsh    fleetctl completion zsh > ~/.zfunc/_fleetctl
  fish   fleetctl completion fish > ~/.config/fish/completions/fleetctl.fish
bash reads that folder if the package bash-completion is there, zsh if ~/.zshrc says
fpath+=~/.zfunc before it calls compinit."""


@click.command(
    epilog=examples(
        'eval "$(fleetctl completion bash)"      # in this shell, or in ~/.bashrc',
        'eval "$(fleetctl completion zsh)"       # the same for zsh, after compinit',
        "fleetctl completion fish | source",
    )
    + f"\n\n{_INSTALL}"
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that completes fleetctl's command lines in a shell.

    It completes verbs, flags and their values, units of the cluster, unit files of the folder, and
    machines. What the cluster knows is asked for with the flags and variables of the line itself;
    a cluster that does not answer within a second is passed over.
    """
    click.echo(script_of(shell), nl=False)
