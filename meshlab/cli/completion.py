"""Print a script that completes meshlab's verbs and flags in bash or zsh."""

import argparse
import importlib

from meshlab.cli import main

EXAMPLE = "source <(meshlab completion bash)"

BASH = """\
# bash completion for meshlab: source <(meshlab completion bash)
_meshlab() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{verbs}"
    elif [ "$before" = --name ]; then
        words="$(meshlab status -q 2>/dev/null)"
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [ ${{#COMPREPLY[@]}} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$word")); fi
}}
complete -F _meshlab meshlab
"""
ZSH = """\
# zsh completion for meshlab: source <(meshlab completion zsh)
autoload -Uz bashcompinit compinit
whence compdef >/dev/null || compinit
bashcompinit
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(args: argparse.Namespace) -> int:
    cases = "\n".join(
        f'            {verb.name}) words="{" ".join(words_of(verb))}" ;;'
        for verb in main.VERBS.values()
    )
    script = BASH.format(verbs=" ".join(main.VERBS), cases=cases)
    print(ZSH + script if args.shell == "zsh" else script, end="")
    return 0


def words_of(verb: main.Verb) -> list[str]:
    """Return a verb's long flags and the words its arguments may be."""
    parser = main.parser_of(verb, importlib.import_module(verb.module))
    words = []
    for action in parser._actions:  # argparse has no public way to list them
        words += [flag for flag in action.option_strings if flag.startswith("--")]
        if not action.option_strings and action.choices:
            words += [str(choice) for choice in action.choices]
    return words
