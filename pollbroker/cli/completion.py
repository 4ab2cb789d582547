"""`pollbroker completion`: print the script with which a shell completes commands, options, names and files.

The script calls `pollbroker` at each completion, with a variable in the environment that says what was typed. click
has the scripts and the answers. Only bash needs a script of ours: bash takes a colon for the end of a word, and click
counts words as bash does, so behind `tcp://127.0.0.1:5561` it would complete the wrong argument. Our script passes the
line on as it was typed.
"""

import os
from collections.abc import Mapping
from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)
from click.shell_completion import split_arg_string as split_line

from pollbroker.cli.commands import COMPLETION_VARIABLE

_BASH_SCRIPT: Final = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local answer line kind value
    answer=$(env COMP_LINE="${COMP_LINE:0:$COMP_POINT}" %(complete_var)s=bash_complete "$1")
    for line in $answer; do
        IFS=',' read -r kind value <<< "$line"
        case $kind in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class LineBashComplete(BashComplete):
    """Completion for bash, by the line as it was typed up to the cursor."""

    source_template = _BASH_SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is to be completed, without the command, and the beginning of that."""
        line = os.environ["COMP_LINE"]
        words = split_line(line)[1:]
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line of the answer."""
        return f"{item.type},{item.value}"


add_completion_class(LineBashComplete)

SHELLS: Final[Mapping[str, type[ShellComplete]]] = {"bash": LineBashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(short_help="Print what makes a shell complete the commands.")
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete the commands of pollbroker, their options, names and files.

    \b
    bash  in ~/.bashrc:  eval "$(pollbroker completion bash)"
    zsh   in ~/.zshrc:   eval "$(pollbroker completion zsh)"
    fish  once:          pollbroker completion fish > ~/.config/fish/completions/pollbroker.fish
    """
    click.echo(SHELLS[shell](context.find_root().command, {}, "pollbroker", COMPLETION_VARIABLE).source())
