"""The error tree. Everything a user can mend derives from `MLPipeError`; the console maps the tree to exit codes."""


class MLPipeError(Exception):
    """Something the user can mend: the message says what was wrong, what was found and what to do."""

    exit_code = 2


class ConfigError(MLPipeError):
    """The configuration is wrong: an unknown key, a value out of range, a strategy that is not ours."""


class DataError(MLPipeError):
    """The candles cannot be used: none for a pair or range, too few, not finite, unsorted or duplicated."""


class TrainingError(MLPipeError):
    """Features and labels cannot be learned from: one class, too few rows, misaligned indexes."""


class BundleError(MLPipeError):
    """A bundle is corrupt, of an unknown format, or does not reproduce its own predictions."""


class RegistryError(MLPipeError):
    """The registry cannot do what was asked: unknown model or version, unvalidated version, no rollback target."""


class PromotionConflictError(RegistryError):
    """Someone else promoted in between: nothing was changed; look at the history and decide again."""


class TrackingError(MLPipeError):
    """The experiment tracker cannot be used as configured."""


class StoreUnavailableError(TrackingError):
    """The database or server that keeps runs and models does not answer."""


class MissingExtraError(MLPipeError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"{module} is not installed. It comes with an extra: pip install 'freqtrade-mlpipe[{extra}]'"
        )


class GateRefusedError(MLPipeError):
    """The gates refused a version; the report says which and why."""

    exit_code = 3


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C during a search whose finished trials are kept: the same training goes on with those left.

    Attributes
    ----------
    options
        What the command line must say besides what it said, for the same command to find them again.
    """

    def __init__(self, n_done: int, n_trials: int, what: str = "trials") -> None:
        super().__init__(f"{n_done} of {n_trials} {what} are done and kept.")
        self.options: tuple[str, ...] = ()
