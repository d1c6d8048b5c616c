"""Completion of words in a shell: a script that is printed once, since the parser takes a second to make."""

import argparse

__all__ = ["CompletionAction"]

_SCRIPT = """\
# Completion for bash; in zsh after "autoload -U bashcompinit; bashcompinit".
_astroclassify() {{
    local verb="${{COMP_WORDS[1]}}" word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{verbs}"
    else
        case "$verb" in
{cases}
        esac
        if [ "${{word:0:1}}" != "-" ]; then return; fi  # files, which the shell completes
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _astroclassify astroclassify"""


def _options(parser):
    """Long options of a parser."""
    return " ".join(text for action in parser._actions for text in action.option_strings if text.startswith("--"))


class CompletionAction(argparse.Action):
    """Print the script of the parser that has this option, and end."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Called by argparse."""
        (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        cases = [f'        {name}) words="{_options(verb)}" ;;' for name, verb in verbs.choices.items()]
        print(_SCRIPT.format(verbs=" ".join([*verbs.choices, *_options(parser).split()]), cases="\n".join(cases)))
        parser.exit()
