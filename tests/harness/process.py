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
    """A program and its children."""

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

    def pids(self):
        """The process and its direct children."""
        found = [self.child.pid]
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    stat = (folder / "stat").read_text()
                except OSError:
                    continue
                if int(stat.rsplit(")", 1)[1].split()[1]) == self.child.pid:
                    found.append(int(folder.name))
        return found

    def cpu_micros(self):
        """Processor time used so far, in user and kernel mode."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks * 1_000_000 // TICKS

    def rss_kib(self):
        """Resident memory."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total

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
