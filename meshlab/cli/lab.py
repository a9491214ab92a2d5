"""Go to a lesson, start it anew, see how far you are, or have it solved."""

import argparse

from meshlab.cli import option

EXAMPLE = """\
meshlab lab goto 9
meshlab lab status 4
meshlab lab solve 4"""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    option.output(parser)
    parser.add_argument("what", choices=("goto", "reset", "status", "solve"))
    parser.add_argument("lesson", nargs="?", help="its number (4 or 04); status without: all")


def run(args: argparse.Namespace) -> int:
    from meshlab.errors import ConfigError
    from meshlab.lab.lab import Lab, lessons

    if args.lesson is None and args.what != "status":
        raise ConfigError(
            f"`lab {args.what}` is about one lesson", fix=f"Say which: meshlab lab {args.what} 4."
        )
    if args.lesson is None:
        option.show(lessons(), args.output)
        return 0
    begins = args.what in ("goto", "reset")
    lab = Lab(args.lesson, cluster=args.name, start=begins)
    if begins:
        print(lab.started)
    else:
        option.show(lab.solve() if args.what == "solve" else lab.status(), args.output)
    return 0
