"""An open run: closed with the right status whatever happens, and safe to log to."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from freqtrade_mlpipe.exceptions import TrackingError
from freqtrade_mlpipe.tracking.backends import Status
from freqtrade_mlpipe.tracking.secrets import redact

if TYPE_CHECKING:
    from freqtrade_mlpipe.tracking.tracker import ExperimentTracker

_LONGEST_REASON = 500

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class ActiveRun(str):
    """The id of an open run. As a context manager it finishes the run.

    An exception marks it FAILED, an interruption (Ctrl-C) KILLED.
    """

    _tracker: ExperimentTracker

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tracker.run_id == self:
            self._tracker.finish(_status_of(exception), reason=_reason_of(exception))


def recording(
    method: Callable[Concatenate[ExperimentTracker, P], None],
) -> Callable[Concatenate[ExperimentTracker, P], None]:
    """Make a logging method safe: it needs an open run, and then it never raises.

    Where tracking is off it does no work.
    """

    @functools.wraps(method)
    def safe(self: ExperimentTracker, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.run_id is None:
            raise TrackingError(f"{method.__name__}: no run is open. Call start_run() first.")
        if self.backend == "none":
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - tracking must never fail a training
            logger.warning(
                "%s: not recorded, the training goes on: %s", method.__name__, redact(repr(error))
            )

    return safe


def _status_of(exception: BaseException | None) -> Status:
    if exception is None or (isinstance(exception, SystemExit) and not exception.code):
        return "FINISHED"
    return "FAILED" if isinstance(exception, Exception | SystemExit) else "KILLED"


def _reason_of(exception: BaseException | None) -> str:
    if _status_of(exception) == "FINISHED":
        return ""
    return redact(f"{type(exception).__name__}: {exception}".removesuffix(": "))[:_LONGEST_REASON]
