"""What a crowd that logs in costs everybody else: latency of chats at a fixed rate, quiet and while 500 people log in at once."""

import asyncio
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request

import bench

CROWD = 500
RATE = 1_000  # chats a second
SECONDS = 3 if bench.QUICK else 10
ROUNDS = 1 if bench.QUICK else 9
OWNER = {"email": "ada@example.org", "name": "Ada", "password": "correct horse battery staple"}
SETTINGS = {
    # Everybody comes from a place of his own, so that no limit of an address keeps the crowd away.
    "MANIFOLD_EDGE__TRUSTED_PROXIES": '["127.0.0.0/8"]',
    "MANIFOLD_EDGE__PUBLIC_URL": "https://api.example",
    "MANIFOLD_EDGE__MAX_CONNECTIONS_PER_IP": str(2 * CROWD),
}


class Crowd:
    """People who log in again and again, and wait as long as they are told to."""

    def __init__(self, port):
        self.port = port
        self.answers = {}
        self.waits = []

    async def person(self, number, end):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = json.dumps({"email": f"person{number}@example.org", "password": "something else entirely"})
        round_ = 0
        while time.monotonic() < end:
            round_ += 1
            place = f"{20 + round_ % 50}.{number // 250}.{number % 250}.7"
            writer.write(
                f"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                f"X-Forwarded-For: {place}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            asked = time.monotonic()
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ", 1)[1].split("\r\n", 1)[0])
            await reader.readexactly(length)
            status = head.split(" ", 2)[1]
            self.answers[status] = self.answers.get(status, 0) + 1
            self.waits.append(time.monotonic() - asked)
            delay = head.partition("retry-after: ")[2].partition("\r\n")[0]
            await asyncio.sleep(int(delay or 0))
        writer.close()

    async def come(self, seconds):
        end = time.monotonic() + seconds
        await asyncio.gather(*(self.person(number, end) for number in range(CROWD)))

    def run(self, seconds):
        # People come from elsewhere: what they do takes no time of this machine from those who are measured.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        asyncio.run(self.come(seconds))


def set_up(url, data):
    token = (data / "setup.token").read_text().strip()
    body = json.dumps({**OWNER, "token": token}).encode()
    request = urllib.request.Request(f"{url}/v1/auth/setup", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).read()


def one_round(place):
    """Latency of chats, quiet and in the crowd; and what the crowd was answered."""
    chats = lambda: place.load("manifold", RATE * SECONDS, RATE)
    quiet = chats()
    crowd = Crowd(place.url.rsplit(":", 1)[1])
    coming = threading.Thread(target=crowd.run, args=(SECONDS + 1,))
    coming.start()
    time.sleep(0.5)
    crowded = chats()
    coming.join()
    return quiet, crowded, crowd


def measure():
    os.environ.update({f"BENCH_{name}": value for name, value in SETTINGS.items()})
    folder = tempfile.mkdtemp(prefix="manifold-bench-")
    place = bench.Bench(folder)
    try:
        place.start()
        set_up(place.url, place.folder / "data")
        rounds = [one_round(place) for _ in range(ROUNDS)]
    finally:
        place.stop()
        shutil.rmtree(folder, ignore_errors=True)
    middle = lambda which, field: statistics.median(a_round[which][field] for a_round in rounds)
    answers = {}
    for _, _, crowd in rounds:
        for status, count in crowd.answers.items():
            answers[status] = answers.get(status, 0) + count
    longest = max(max(crowd.waits) for _, _, crowd in rounds)
    return {
        "crowd": CROWD, "rate": RATE,
        "quiet": {field: middle(0, field) for field in ("p50", "p99")},
        "crowded": {field: middle(1, field) for field in ("p50", "p99")},
        "answers": answers, "longest_wait_ms": round(longest * 1_000),
    }


def show(result):
    quiet, crowded = result["quiet"], result["crowded"]
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(result["answers"].items()))
    bench.show(f"chats at {result['rate']}/s: p50 {quiet['p50']:.0f}, p99 {quiet['p99']:.0f} µs quiet; p50 {crowded['p50']:.0f}, "
               f"p99 {crowded['p99']:.0f} µs ({crowded['p99'] / quiet['p99']:.2f} times) while {result['crowd']} people log in "
               f"({answers}; longest wait {result['longest_wait_ms']} ms)")


if __name__ == "__main__":
    found = measure()
    show(found)
    bench.keep({"logins": found})
