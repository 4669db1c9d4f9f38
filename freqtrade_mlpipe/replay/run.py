"""freqtrade's own command line with the replay exchange registered, and honest exit codes."""

import logging
import sys
from collections.abc import Sequence

from freqtrade_mlpipe.replay import register


class _Errors(logging.Filter):
    """Remembers what freqtrade's `main` itself logged as an error; lets every record pass."""

    def __init__(self) -> None:
        super().__init__()
        self.exit_code: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            self.exit_code = 1 if record.exc_info else 2
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Run a freqtrade command in this process, `replay` registered, and return its exit code.

    freqtrade itself ends with 0 after a configuration error and after an unknown option; here both
    are 2. Scripts that call this guard the call with ``if __name__ == "__main__"``: hyperopt's
    workers may import them again.

    Parameters
    ----------
    argv : sequence of str, optional
        freqtrade's arguments without the program name; the process's own by default.

    Returns
    -------
    int
        0 done, 2 the user can fix it, 1 a bug, 130 interrupted.
    """
    register()
    from freqtrade.main import main as freqtrade_main

    errors = _Errors()
    # Only freqtrade.main logs under this name, an error only where it gives up, and a traceback
    # only for what it did not foresee:
    # https://github.com/freqtrade/freqtrade/blob/develop/freqtrade/main.py
    main_logger = logging.getLogger("freqtrade")
    main_logger.addFilter(errors)
    try:
        freqtrade_main(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as left:
        return _exit_code(left) if errors.exit_code is None else errors.exit_code
    finally:
        main_logger.removeFilter(errors)
    return 0


def _exit_code(left: SystemExit) -> int:
    """Return the code of an exit, or of the one that it overtook or wraps.

    argparse's exit (2 for a wrong argument) passes through main's ``finally: sys.exit(…)``.
    """
    code = left.code
    if code is None and isinstance(left.__context__, SystemExit):
        code = left.__context__.code
    while isinstance(code, SystemExit):
        code = code.code
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


if __name__ == "__main__":
    sys.exit(main())
