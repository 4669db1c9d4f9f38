"""freqtrade's own command line with the replay exchange registered, and honest exit codes."""

import logging
import sys
from collections.abc import Sequence

from freqtrade_mlpipe.replay import register


class _Errors(logging.Filter):
    """Remembers whether freqtrade's `main` itself logged an error; lets every record pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def filter(self, record: logging.LogRecord) -> bool:
        self.seen = self.seen or record.levelno >= logging.ERROR
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Run a freqtrade command in this process with the exchange `replay` available; return its exit code.

    freqtrade ends with 0 after a configuration error and after an unknown option; here both are 2. Scripts that call this
    guard the call with ``if __name__ == "__main__"``: hyperopt's workers import them again.

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
    # Only `freqtrade.main` logs on this name, and errors only when it gives up:
    # https://github.com/freqtrade/freqtrade/blob/develop/freqtrade/main.py
    main_logger = logging.getLogger("freqtrade")
    main_logger.addFilter(errors)
    try:
        freqtrade_main(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as left:
        code = left.code
        # An argument error's exit is overtaken by main's own, which carries no code.
        if code is None and isinstance(left.__context__, SystemExit):
            code = left.__context__.code
        if not code:
            return 2 if errors.seen else 0
        return code if isinstance(code, int) else 1
    finally:
        main_logger.removeFilter(errors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
