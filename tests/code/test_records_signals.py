"""Commands that run until they are asked to end do so, however often they are asked."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from records.signals import asked_to_end

WAITS = """
import os, signal, time
from records.signals import asked_to_end
with asked_to_end() as asked:
    print("waits", flush=True)
    while not asked:
        time.sleep(0.001)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    print(*set(asked), flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_told_by_its_name_and_the_handler_before_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with asked_to_end() as asked:
        assert not asked
        os.kill(os.getpid(), number)
        assert list(asked) == [number.name]
    assert signal.getsignal(number) is before


@pytest.mark.timeout(120)
def test_a_hail_of_signals_ends_it_as_one_does() -> None:
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "waits\n"

        def hail(process: "subprocess.Popen[str]" = process) -> None:
            for number in (signal.SIGTERM, signal.SIGINT) * 200:
                if process.poll() is None:
                    process.send_signal(number)

        senders = [threading.Thread(target=hail) for _ in range(2)]
        for sender in senders:
            sender.start()
        try:
            deadline = time.monotonic() + 60
            while process.poll() is None:
                assert time.monotonic() < deadline, "it hangs"
                time.sleep(0.01)
        finally:
            process.kill()
            for sender in senders:
                sender.join()
            told = process.communicate()[0].split()
        assert process.returncode == 0 and told and {*told} <= {"SIGTERM", "SIGINT"}
