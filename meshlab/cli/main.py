"""The command line: finds the verb, runs it, prints what went wrong in one line.

Each verb is a module of this package with `arguments(parser)` and `run(args) -> int`; only the one
that is asked for is imported, so that `meshlab --help` and completion are quick.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from meshlab.errors import ConfigError, MeshlabError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True, slots=True)
class Verb:
    name: str
    about: str
    passes_on: bool = False
    """Whether flags that the verb does not know are for the program behind it."""

    @property
    def module(self) -> str:
        return f"meshlab.cli.{self.name.replace('-', '_')}"


VERBS = {
    verb.name: verb
    for verb in (
        Verb("up", "make a cluster, with the mesh on it"),
        Verb("down", "remove a cluster and everything of it"),
        Verb("stop", "stop a cluster, keep its state"),
        Verb("status", "what runs, and since when"),
        Verb("doctor", "what this machine can do, and how to fix what it cannot"),
        Verb("kubeconfig", "print the path of a cluster's kubeconfig"),
        Verb("ingress", "print the base URL of the ingress gateway"),
        Verb("install", "install the mesh on a cluster"),
        Verb("uninstall", "remove the mesh from a cluster"),
        Verb("kube-inject", "add sidecars to manifests, to standard output"),
        Verb("apply", "apply manifests and wait for the proxies"),
        Verb("logs", "what the pods' containers wrote"),
        Verb("load", "send load to a URL, with fortio's flags", passes_on=True),
        Verb("proxy-status", "what each proxy was sent and has acknowledged"),
        Verb("proxy-config", "what one proxy is configured to do"),
        Verb("lab", "go to a lesson, reset it, see where you are, solve it"),
        Verb("completion", "print a shell's completion script"),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if given[0] in ("--version", "version"):
        from importlib.metadata import version

        print(f"meshlab {version('meshlab')}")
        return 0
    verb = VERBS.get(given[0])
    if verb is None:
        print(f"meshlab: {_unknown(given[0])}", file=sys.stderr)
        return WRONG_USAGE
    return _run(verb, given[1:])


def _run(verb: Verb, given: Sequence[str]) -> int:
    module = importlib.import_module(verb.module)
    parser = parser_of(verb, module)
    own, rest = split(given, parser) if verb.passes_on else (list(given), [])
    args = parser.parse_args(own)
    args.rest = rest
    try:
        return int(module.run(args))
    except MeshlabError as error:
        print("\n".join(f"error: {line}" for line in problems(error)), file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # `meshlab logs | head` has read enough
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def parser_of(verb: Verb, module: ModuleType) -> argparse.ArgumentParser:
    """Return the verb's parser; its help ends with the module's EXAMPLE."""
    lines = "\n".join(f"  {line}" for line in str(module.EXAMPLE).strip().splitlines())
    parser = argparse.ArgumentParser(
        prog=f"meshlab {verb.name}",
        description=module.__doc__,
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arguments(parser)
    return parser


def split(given: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Part our own flags from another program's (fortio's `-offset` is not our `-o ffset`)."""
    ours = {flag: action.nargs for action in parser._actions for flag in action.option_strings}
    own, rest = [], []
    words = iter(given)
    for word in words:
        if word.partition("=")[0] not in ours:
            rest.append(word)
            continue
        own.append(word)
        if "=" not in word and ours[word] is None:  # it takes a value
            own += [value for value in [next(words, None)] if value is not None]
    return own, rest


def problems(error: MeshlabError) -> list[str]:
    """Return one line a problem: an object that is refused names all of its own at once."""
    several: Sequence[ConfigError] = getattr(error, "problems", ())
    return [each.render() for each in several] or [error.render()]


def overview() -> str:
    """Return the help of the whole command."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb.name.ljust(width)}  {verb.about}" for verb in VERBS.values())
    return (
        "usage: meshlab VERB [--name CLUSTER] …\n\n"
        f"Learn how a service mesh works by running one.\n\n{verbs}\n\n"
        "`meshlab VERB --help` shows a verb's flags and an example.\n\n"
        "example:\n  meshlab up && export KUBECONFIG=$(meshlab kubeconfig) && kubectl get pods -A"
    )


def _unknown(word: str) -> str:
    near = difflib.get_close_matches(word, VERBS, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "see `meshlab --help`."
    return f"no verb {word!r}; {hint}"


if __name__ == "__main__":
    sys.exit(main())
