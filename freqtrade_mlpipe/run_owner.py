"""Which process a run belongs to: what a killed one left open in the store is closed by the next.

MLflow knows a run as RUNNING until someone says otherwise, and a killed process says nothing. Each run therefore
carries the host, the process id and when that process started, because ids are used again.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

HOST_TAG, PID_TAG, STARTED_TAG = "mlpipe.host", "mlpipe.pid", "mlpipe.process_started"
REASON_TAG = "mlpipe.reason"

_CLOCK_STEP_SECONDS = 2.0
"""psutil derives start times from the boot time, which moves a little when the clock is set."""


@cache
def _of(pid: int) -> dict[str, str]:
    import psutil

    started = psutil.Process(pid).create_time()
    return {HOST_TAG: socket.gethostname(), PID_TAG: str(pid), STARTED_TAG: f"{started:.2f}"}


def owner_tags() -> dict[str, str]:
    """Tags that say which process opened a run."""
    return dict(_of(os.getpid()))


def owner_is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process named by `tags` ran on this machine and does not any more.

    False where it cannot be known: another host, or no such tags.
    """
    if tags.get(HOST_TAG) != socket.gethostname():
        return False
    try:
        pid, started = int(tags[PID_TAG]), float(tags[STARTED_TAG])
    except (KeyError, ValueError):
        return False
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return bool(abs(process.create_time() - started) > _CLOCK_STEP_SECONDS)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def close_orphans(client: MlflowClient) -> list[str]:
    """Mark as KILLED every run of ours that is RUNNING though its process is gone; their ids."""
    experiments = [found.experiment_id for found in client.search_experiments()]
    running = client.search_runs(
        experiments,
        f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{socket.gethostname()}'",
    )
    orphans = [run.info.run_id for run in running if owner_is_gone(run.data.tags)]
    for run_id in orphans:
        client.set_tag(run_id, REASON_TAG, "The process ended without closing the run.")
        client.set_terminated(run_id, "KILLED")
    if orphans:
        logger.info("Runs of killed processes closed: %s.", ", ".join(orphans))
    return orphans
