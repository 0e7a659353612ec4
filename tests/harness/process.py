"""Processes under test: start, processor time, memory, stop."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, timeout=5):
    """Body of a GET, or None if there was no 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None


class Process:
    """A program and all that it starts."""

    def __init__(self, command, log, env=None):
        self.log = log
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
            )

    def first_line(self):
        """What the program prints first."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            line, end, _ = Path(self.log).read_text().partition("\n")
            if end:
                return line
            time.sleep(0.002)
        raise SystemExit(f"{self.child.args[0]} printed nothing")

    def family(self):
        """Fields of /proc/PID/stat from the third on: of the process, of its children, and of theirs."""
        stats = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    stats[int(folder.name)] = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
        found = [self.child.pid]
        for pid in found:
            found += [child for child, fields in stats.items() if int(fields[1]) == pid]
        return [stats[pid] for pid in found if pid in stats]

    def cpu_micros(self):
        """Processor time used so far, in user and kernel mode."""
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in self.family())
        return ticks * 1_000_000 // TICKS

    def rss_kib(self):
        """Resident memory."""
        return sum(int(fields[21]) for fields in self.family()) * PAGE_KIB

    def wait_for(self, url, seconds=30):
        """Waits until the address answers 200."""
        deadline = time.monotonic() + seconds
        while get(url, timeout=1) is None:
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.child.args[0]} did not come up:\n{Path(self.log).read_text()[-3000:]}")
            time.sleep(0.002)

    def stop(self):
        """SIGTERM, then SIGKILL."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
