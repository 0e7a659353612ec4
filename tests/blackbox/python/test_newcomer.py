"""A newcomer's first hour with the running gateway, by the public REST and the mail that it sends."""

import threading
import time

import pytest
from house import Caller, House, Mailbox, stack_in

LIMIT = {"name": "minute", "quota": 3, "window": "60s"}
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
N_THREADS = 8


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with Mailbox() as mailbox, stack_in(tmp_path_factory.mktemp("house")) as stack:
        yield House(stack, mailbox)


def until(holds, seconds, what):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def key_of(house, secret):
    return Caller(house.url, Authorization=f"Bearer {secret}")


class Traffic:
    """Threads that call with a secret one after another; `failed` is whatever was not answered as it should be."""

    def __init__(self, house, secret):
        self.house, self.secret = house, secret
        self.failed, self.last_used = [], [None] * N_THREADS
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=[n]) for n in range(N_THREADS)]

    def run(self, n):
        used, caller = None, None
        while not self.is_over.is_set():
            if used != self.secret:
                used = self.secret
                caller = key_of(self.house, used)
            try:
                answer = caller.call("GET", "/v1/keys")
            except Exception as error:  # a call that was not answered failed, too
                self.failed.append(error)
                continue
            if answer.status_code != 200:
                self.failed.append((answer.status_code, answer.text))
            self.last_used[n] = used

    def all_use(self, secret):
        return all(used == secret for used in self.last_used)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def test_a_newcomer_registers_limits_rotates_and_revokes_a_key_of_which_nobody_else_sees_anything(house):
    grace = house.register("grace@example.org")
    session = grace.made("GET", "/v1/auth/session")
    assert session["roles"] == ["owner"]

    made = grace.made("POST", "/v1/keys", {"name": "website", "permissions": ["keys.key.read"]})
    path = f"/v1/keys/{made['id']}"
    grace.made("PUT", f"/v1/limits/{made['id']}", {"limits": [LIMIT]})
    website = key_of(house, made["secret"])
    is_stopped_by_its_scope_and_its_limit(website)
    grace.made("DELETE", f"/v1/limits/{made['id']}")

    with Traffic(house, made["secret"]) as traffic:
        until(lambda: traffic.all_use(made["secret"]), 30, "traffic flows")
        rotated = grace.made("POST", f"{path}/rotate", {"grace": "PT1H"})
        traffic.secret = rotated["secret"]
        until(lambda: traffic.all_use(rotated["secret"]), 30, "everybody has the new secret")
        # Refused until it is known that the new secret is in use, which takes a few seconds.
        until(lambda: grace.call("POST", f"{path}/rotate/finish", {}).status_code == 200, 30, "the rotation is finished")
        until(lambda: website.call("GET", "/v1/keys").status_code == 401, 1, "the old secret is refused")
        until(lambda: traffic.all_use(rotated["secret"]), 30, "the new secret goes on")
    assert traffic.failed == []

    renewed = key_of(house, rotated["secret"])
    assert renewed.call("GET", path).status_code == 200
    others_see_nothing(house, grace, session, made["id"])
    grace.made("DELETE", path)
    until(lambda: renewed.call("GET", path).status_code == 401, 1, "the revoked key is refused")


def is_stopped_by_its_scope_and_its_limit(website):
    """Three calls count, of which one is refused for another reason; the next one is stopped."""
    first, denied, last = (website.call(*call) for call in [("GET", "/v1/keys"), ("POST", "/v1/keys", {"name": "more"}), ("GET", "/v1/keys")])
    assert (first.status_code, denied.status_code, last.status_code) == (200, 403, 200)
    assert denied.json()["code"] == "insufficient_scope"
    assert "ratelimit" not in denied.headers, "who may not call learns nothing about limits"
    assert first.headers["ratelimit-policy"] == '"key/minute";q=3;w=60'
    assert [state_of(answer)[0] for answer in (first, last)] == [2, 0]

    stopped = website.call("GET", "/v1/keys")
    problem = stopped.json()
    assert stopped.status_code == 429
    assert stopped.headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["status"], problem["violated-policies"]) == (QUOTA_EXCEEDED, 429, ["key/minute"])
    remaining, reset = state_of(stopped)
    assert remaining == 0
    assert 1 <= reset == int(stopped.headers["retry-after"]) <= 22, "one of three a minute comes back in 20 s, and a tenth more"


def state_of(answer):
    """What is left and when the next comes: `"key/minute";r=2;t=20`."""
    name, *parameters = answer.headers["ratelimit"].split(";")
    assert name == '"key/minute"'
    values = dict(parameter.split("=") for parameter in parameters)
    return int(values["r"]), int(values["t"])


def others_see_nothing(house, grace, session, key):
    """For another tenant whatever is grace's is what never was, in every operation that takes an id."""
    role = grace.made("POST", "/v1/roles", {"name": "helper", "grants": [{"permission": "keys.key.read"}]})
    invitation = grace.made("POST", "/v1/invitations", {"email": "alan@example.org", "role": "viewer"})
    factor = grace.made("POST", "/v1/users/me/factors", {"kind": "totp"})
    grace.made("PUT", "/v1/secrets/stripe", {"value": "hidden-value"})
    # The longest beginning of a path tells what it is about.
    things = {
        "/v1/keys/": key,
        "/v1/limits/": key,
        "/v1/roles/": role["id"],
        "/v1/invitations/": invitation["id"],
        "/v1/users/": session["user"]["id"],
        "/v1/users/me/factors/": factor["id"],
        "/v1/sessions/": session["id"],
        "/v1/tenants/": session["tenant"],
        "/v1/secrets/": "stripe",
    }
    eve = house.register("eve@example.org")

    n_asked = 0
    for method, path, operation in operations(house):
        # Who writes a secret makes one of the own tenant.
        about = max((start for start in things if path.startswith(start)), key=len, default=None)
        if "{" not in path or about is None or operation["operationId"] == "putSecret":
            continue
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        foreign = eve.call(method, at(path, things[about]), body)
        unknown = eve.call(method, at(path, made_up(things[about])), body)
        assert foreign.status_code == 404, f"{method} {path}: {foreign.text}"
        assert essence(foreign) == essence(unknown), f"{method} {path}"
        n_asked += 1
    assert n_asked > 20

    for method, path, operation in operations(house):
        if method == "GET" and path.startswith("/v1/") and "{" not in path:
            seen = eve.call("GET", path).text
            assert not [thing for thing in things.values() if thing in seen], f"{path}: {seen}"


def operations(house):
    paths = house.nobody.made("GET", "/openapi.json")["paths"]
    return [(method.upper(), path, operation) for path, item in paths.items() for method, operation in item.items()]


def at(path, thing):
    start, end = path.index("{"), path.index("}")
    return path[:start] + thing + path[end + 1:]


def made_up(thing):
    """An id, or a name, of the same kind that was never given to anything."""
    prefix, underscore, _ = thing.partition("_")
    return f"{prefix}_01h455vb4pex5vsknk084sn02q" if underscore else "never"


def essence(answer):
    """Status, headers and body, but for what belongs to the request."""
    body = {name: value for name, value in answer.json().items() if name not in ("request_id", "trace_id", "instance")}
    headers = {name: value for name, value in answer.headers.items() if name.lower() in ("content-type", "cache-control", "retry-after", "allow")}
    return answer.status_code, headers, body
