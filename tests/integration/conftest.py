"""freqtrade sets up logging for the whole process: every test here puts it back."""

import pytest


@pytest.fixture(autouse=True)
def _logging(restore_logging):
    """Nothing but the fixture asked for."""
