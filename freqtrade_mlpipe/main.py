"""The console: parses the command, runs it, turns errors into exit codes.

Exit codes: 0 done; 2 the user can mend it, the message says how; 3 a gate refused; 130 interrupted; 1 a bug.
"""

from __future__ import annotations

import logging
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib import import_module

from freqtrade_mlpipe import __version__
from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.table import COMMANDS, Command
from freqtrade_mlpipe.exceptions import MLPipeError, SearchInterrupted

logger = logging.getLogger("freqtrade_mlpipe")

EXIT_BUG, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((row for row in COMMANDS if arguments and row.name == arguments[0]), None)
    try:
        if command is None:
            _overview().parse_args(arguments or ["--help"])
            return EXIT_USER
        if command.passthrough:
            return _load(command)(arguments[1:])
        parsed = _parser(command).parse_args(arguments[1:])
        return _load(command)(vars(parsed))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else EXIT_USER
    except SearchInterrupted as stop:
        again = shlex.join(["freqtrade-mlpipe", *arguments, *stop.options])
        print(
            f"Interrupted: {stop} The same command goes on with them:\n  {again}", file=sys.stderr
        )
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print("Interrupted: what was registered before stays as it was.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except MLPipeError as error:
        _say(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort of the console
        return _fail(error)
    finally:
        stdout.flush()


def _say(error: Exception) -> None:
    """Print the message without passwords: it may quote an address or a driver's answer."""
    from freqtrade_mlpipe.tracking.secrets import redact

    print(f"Error: {redact(str(error))}", file=sys.stderr)


def _fail(error: Exception) -> int:
    from freqtrade.exceptions import FreqtradeException

    if isinstance(error, FreqtradeException):
        _say(error)
        return EXIT_USER
    logger.exception("This is a bug in freqtrade-mlpipe; please report it with the lines above.")
    return EXIT_BUG


def _overview() -> ArgumentParser:
    """The parser of the bare command: it knows the names only, so that help needs no freqtrade."""
    parser = ArgumentParser(
        prog="freqtrade-mlpipe",
        description="Train, validate, promote and serve machine-learning models for freqtrade.",
        epilog="`freqtrade-mlpipe COMMAND -h` shows a command's options.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for row in COMMANDS:
        commands.add_parser(row.name, help=row.help, add_help=False)
    return parser


def _parser(command: Command) -> ArgumentParser:
    from freqtrade_mlpipe.commands.options import add_options

    parser = ArgumentParser(
        prog=f"freqtrade-mlpipe {command.name}", description=command.help, epilog=command.epilog
    )
    add_options(parser, command.options)
    return parser


def _load(command: Command) -> Callable[..., int]:
    module, function = command.start.split(":")
    start: Callable[..., int] = getattr(import_module(module), function)
    return start


def run() -> None:
    """Console entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
