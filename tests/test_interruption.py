"""Ctrl-C that a destructor swallows is raised by the next check."""

import signal
import threading

import pytest

from freqtrade_mlpipe.interruption import lasting_interrupts


class Swallowing:
    """An object in whose destructor Ctrl-C arrives."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def swallow_and_go_on() -> None:
    with lasting_interrupts() as check:
        check()
        for _ in range(2):
            Swallowing()  # "Exception ignored in ..."
        check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_dropped_is_raised_by_the_check():
    with pytest.raises(KeyboardInterrupt):
        swallow_and_go_on()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_raised_at_once_where_nothing_swallows_it():
    with pytest.raises(KeyboardInterrupt), lasting_interrupts():
        signal.raise_signal(signal.SIGINT)


def test_a_program_with_a_handler_of_its_own_keeps_it():
    arrived = []
    before = signal.signal(signal.SIGINT, lambda *_: arrived.append(True))
    try:
        with lasting_interrupts() as check:
            signal.raise_signal(signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)
    assert arrived == [True]


def test_threads_beside_the_main_one_are_left_alone():
    def work() -> None:
        with lasting_interrupts() as check:
            check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
