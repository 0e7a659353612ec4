"""The running gateway does what its contract says: good and bad requests are made of /openapi.json, and its links followed."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from house import PASSWORD, House, Mailbox, stack_in
from stack import HERE, PROVIDERS, providers_at

# Who calls → how many cases there are at least, and how many operations that did what they were asked for.
LEAST = {"key": (5_000, 50), "session": (5_000, 65)}
# One after the other. Answers decide where links lead to: when the same requests are answered otherwise, following them ends.
PASSES = [("examples,coverage,fuzzing,stateful", 1), ("stateful", 9)]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")

pytestmark = pytest.mark.skipif(os.environ["BLACKBOX_SHAPE"] != "one", reason="the door is the same in front of several processes")


def check(caller, settings, folder):
    """What each pass had to say, in a caller's name. What was done in one is not there in the next."""
    return [one_pass(caller, settings, folder / f"pass-{seed}", phases, seed) for phases, seed in PASSES]


def one_pass(caller, settings, folder, phases, seed):
    """The report of a house of its own, with all that was printed."""
    folder.mkdir()
    with Mailbox() as mailbox, stack_in(folder) as stack:
        house = House(stack, mailbox, settings)
        report = folder / "report.json"
        command = [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run", f"{house.url}/openapi.json", "--url", house.url]
        command += ["--phases", phases, "--seed", str(seed), "--report", "json", "--report-json-path", report, "--no-color"]
        env = {**os.environ, **{f"CONTRACT_{name}": text for name, text in what_hooks_know(house, caller).items()}}
        done = subprocess.run(command, env=env, cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout + done.stderr
    return {**json.loads(report.read_text()), "exit_code": done.returncode, "printed": done.stdout}


def what_hooks_know(house, caller):
    """Of the caller, and of what is there to be changed instead of the caller's own."""
    session = house.owner.made("GET", "/v1/auth/session")
    [own] = house.admin.made("GET", "/v1/keys")["data"]
    known = {"URL": house.url, "OWN_KEY": own["id"], "OWN_TENANT": session["tenant"], "OWN_USER": session["user"]["id"]}
    for whose in ("OWN", "SPARE"):
        owner = {"external_id": whose, "name": whose}
        known[f"{whose}_OWNER"] = house.admin.made("POST", "/v1/owners", owner)["id"]
    known["SPARE_KEY"] = house.admin.made("POST", "/v1/keys", {"name": "spare"})["id"]
    known["SPARE_TENANT"] = house.owner.made("POST", "/v1/tenants", {"name": "Spare", "slug": "spare"})["id"]
    if caller == "key":
        return {**known, "SECRET": house.admin.headers["Authorization"].removeprefix("Bearer ")}
    return {**known, "EMAIL": session["user"]["email"], "PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    """All callers at the same time. What survives a power cut is tested elsewhere."""
    upstream = os.environ["BLACKBOX_SCRIPTED_UPSTREAM"]
    settings = providers_at({name: f"{upstream}/{name}" for name in PROVIDERS}) | {"MANIFOLD_STORE__DURABILITY": "normal"}
    with ThreadPoolExecutor() as pool:
        yield {caller: pool.submit(check, caller, settings, tmp_path_factory.mktemp(caller)) for caller in LEAST}


@pytest.mark.parametrize("caller", LEAST)
def test_everything_is_answered_as_the_contract_says(checks, caller, capsys):
    passes = checks[caller].result()

    n_cases = sum(one["test_cases"]["generated"] for one in passes)
    n_done = sum(any(phase["accepted"] for phase in phases.values()) for phases in passes[0]["valid_rates"].values())
    seconds = sum(one["running_time"] for one in passes)
    with capsys.disabled():
        print(f"\ncontract, by {caller}: {n_cases} cases in {seconds:.0f} s, {n_done} operations done")
    failed = [one["printed"][-30_000:] for one in passes if one["exit_code"] != 0]
    assert not failed, "\n".join(failed)
    n_cases_least, n_done_least = LEAST[caller]
    assert n_cases >= n_cases_least
    assert n_done >= n_done_least, "the caller was refused too much"
