"""What an operator does with the running gateway: whether the record is whole, and a new master key under load."""

import os
import secrets
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest
from house import Caller, House, Mailbox, stack_in
from stack import BINARY, psql

N_WRITERS = 100
KEYS = "SELECT master_id, COUNT(*) FROM vault_key GROUP BY master_id"


class Operator:
    """A gateway, its command line and its database."""

    def __init__(self, stack, mailbox, folder):
        new = folder / "k2.key"
        new.write_text(secrets.token_hex(32))
        keys = f'[{{id="k1",file="master.key"}},{{id="k2",file="{new}"}}]'
        self.house = House(stack, mailbox, settings={"MANIFOLD_IDENTITY__MASTER_KEYS": keys})
        self.new, self.settings = new, stack.settings["house"]

    def manifold(self, *arguments):
        command = [BINARY, *arguments]
        return subprocess.run(
            command, env=self.settings, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)

    def sql(self, *statements):
        """Works on the database behind the gateway's back; rows of the last statement."""
        store = self.settings.get("MANIFOLD_STORE__URL")
        if store is None:
            with sqlite3.connect(Path(self.settings["MANIFOLD_DATA_DIR"], "identity.db"), timeout=30) as database:
                return [database.execute(statement).fetchall() for statement in statements][-1]
        command = [psql(), "-q", "-A", "-t", "-F", "\t", "-d", store, "-c", "; ".join(("SET search_path = identity", *statements))]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def operator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("operator")
    with Mailbox() as mailbox, stack_in(folder) as stack:
        yield Operator(stack, mailbox, folder)


class Writer(threading.Thread):
    """Writes secrets one after the other; `failed` is what was not answered as it should be."""

    def __init__(self, house, number, is_over):
        super().__init__()
        self.caller = Caller(house.url, **house.admin.headers)
        self.number, self.is_over = number, is_over
        self.n_written, self.failed = 0, []

    def run(self):
        while not self.is_over.is_set():
            answer = self.caller.call("PUT", f"/v1/secrets/writer{self.number}.live", {"value": secrets.token_hex(16)})
            self.n_written += 1
            if not answer.ok:
                self.failed.append((answer.status_code, answer.text))


def all_write(writers):
    """Waits until each one has begun and ended a write."""
    before, end = [writer.n_written for writer in writers], time.monotonic() + 60
    while any(writer.n_written < n + 2 for writer, n in zip(writers, before)):
        assert time.monotonic() < end, "not all writers go on"
        time.sleep(0.01)


def test_a_new_master_key_seals_everything_while_a_hundred_clients_write(operator):
    is_over = threading.Event()
    writers = [Writer(operator.house, number, is_over) for number in range(N_WRITERS)]
    for writer in writers:
        writer.start()
    all_write(writers)

    done = operator.manifold("vault", "rotate-master", "--new", operator.new)
    all_write(writers)
    is_over.set()
    for writer in writers:
        writer.join()

    print(f"\n{done.stdout}{sum(writer.n_written for writer in writers)} secrets were written meanwhile")
    assert done.returncode == 0, done.stderr
    assert [failure for writer in writers for failure in writer.failed] == []
    assert [str(row[0]) for row in operator.sql(KEYS)] == ["k2"]
    assert "k1" in done.stdout and "retired" in done.stdout
    assert len(operator.house.admin.made("GET", "/v1/secrets?limit=200")["data"]) == N_WRITERS


def test_one_changed_byte_names_its_entry(operator):
    house = operator.house
    for name in ("one", "two", "three"):
        house.admin.made("POST", "/v1/roles", {"name": name, "grants": [{"permission": "ai.chat.complete"}]})
    whole = operator.manifold("audit", "verify")
    entries = house.admin.made("GET", "/v1/audit?action=identity.role.changed&limit=3")["data"]
    seq = entries[1]["seq"]

    protection = {
        "one": "DROP TRIGGER audit_entry_is_not_changed",
        "two": "ALTER TABLE audit_entry DISABLE TRIGGER USER",
    }[os.environ["BLACKBOX_SHAPE"]]
    changed = f"UPDATE audit_entry SET target = substr(target, 1, length(target) - 1) || '~' WHERE seq = {seq} AND action LIKE '%role%'"
    operator.sql(protection, changed)
    broken = operator.manifold("audit", "verify")

    print(f"\n{whole.stdout}{broken.stdout}")
    assert (whole.returncode, broken.returncode) == (0, 1)
    assert whole.stdout.startswith("intact: ")
    assert broken.stdout.startswith(f"broken at seq {seq}: ")
