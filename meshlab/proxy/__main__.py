"""`meshlab-proxy -c FILE`: read an Envoy v3 bootstrap, run it, drain at the end."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import uvloop

from meshlab.errors import ConfigError
from meshlab.proxy.config.bootstrap import Bootstrap, read_bootstrap
from meshlab.proxy.telemetry.log_level import LEVELS

EXAMPLE = "example: meshlab-proxy -c bootstrap.yaml --log-level debug"


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="meshlab-proxy",
        description="The sidecar proxy. Its configuration is an Envoy v3 bootstrap.",
        epilog=EXAMPLE,
    )
    add = arguments.add_argument
    add("-c", "--config-path", metavar="FILE", help="bootstrap, JSON or YAML")
    add("--config-yaml", default="", metavar="YAML", help="laid over the file")
    add("--mode", choices=("serve", "validate"), default="serve")
    add("--service-node", default="", metavar="ID", help="node.id")
    add("--service-cluster", default="", metavar="NAME", help="node.cluster")
    add("--drain-time-s", type=float, default=5.0, metavar="SECONDS")
    add("--concurrency", type=int, default=1, metavar="N", help="taken, but one worker runs")
    add("-l", "--log-level", choices=tuple(LEVELS), default="info")
    add("--version", action="version", version=f"meshlab-proxy {version('meshlab')}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit status is 0 at a regular end, 1 for a refused configuration, 2 for flags."""
    arguments = parser()
    options = arguments.parse_args(argv)
    if not options.config_path and not options.config_yaml:
        arguments.error("one of -c and --config-yaml must be given")
    logging.basicConfig(
        level=LEVELS[options.log_level],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # gRPC reads it at its import and else reports every stream that a server ends
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        bootstrap = read(options)
        if options.mode == "validate":
            asyncio.run(validate(bootstrap))
            sys.stdout.write(f"configuration '{options.config_path or '--config-yaml'}' OK\n")
        else:
            uvloop.run(serve(bootstrap, options))
    except ConfigError as error:
        sys.stderr.write(f"meshlab-proxy: {error}\n")
        return 1
    return 0


def read(options: argparse.Namespace) -> Bootstrap:
    """Return the bootstrap; raises ConfigError for a file that cannot be read, too."""
    text = ""
    if options.config_path:
        try:
            text = Path(options.config_path).read_text()
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {error.strerror}", object=options.config_path
            ) from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"is not UTF-8: {error}", object=options.config_path) from None
    return read_bootstrap(
        text,
        name=options.config_path or "--config-yaml",
        config_yaml=options.config_yaml,
        service_node=options.service_node,
        service_cluster=options.service_cluster,
        flags=vars(options),
    )


async def validate(bootstrap: Bootstrap) -> None:
    from meshlab.proxy.server import Server

    Server(bootstrap)


async def serve(bootstrap: Bootstrap, options: argparse.Namespace) -> None:
    from meshlab.proxy.server import Server

    command_line = {key: value for key, value in vars(options).items() if value not in ("", None)}
    server = Server(bootstrap, drain_time=options.drain_time_s, command_line=command_line)
    await server.run()


if __name__ == "__main__":
    sys.exit(main())
