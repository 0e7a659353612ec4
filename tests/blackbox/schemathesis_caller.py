"""Who calls while the contract is tested: a key, or a person."""

import itertools
import os

import requests

URL = os.environ["CONTRACT_URL"]
COOKIE = "__Host-manifold"
# What the caller goes on needing, and what takes the place of it where it would be ended or changed.
OWN, SPARE = ({kind: os.environ.get(f"CONTRACT_{whose}_{kind}") for kind in ("KEY", "OWNER", "TENANT", "USER")} for whose in ("OWN", "SPARE"))
# Each request comes from another one: nobody guesses, and nobody has to wait.
addresses = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in itertools.count())


class Key:
    """A caller by an API key, and no person."""

    password, is_person = "of nobody", False

    def credentials(self):
        return {}, {"Authorization": f"Bearer {os.environ['CONTRACT_SECRET']}"}

    def heard(self, case, response):
        pass


class Person:
    """A caller by a session, who logs in again after being logged out."""

    is_person = True

    def __init__(self):
        self.email, self.password = os.environ["CONTRACT_EMAIL"], os.environ["CONTRACT_PASSWORD"]
        self.session = None

    def credentials(self):
        if self.session is None:
            body = {"email": self.email, "password": self.password}
            answer = requests.post(f"{URL}/v1/auth/login", json=body, headers={"X-Forwarded-For": next(addresses)}, timeout=30)
            assert answer.status_code == 200, answer.text
            assert answer.json()["tenant"] == OWN["TENANT"]
            self.session = session_of(answer.headers["set-cookie"], answer.json())
        cookie, csrf = self.session
        return {COOKIE: cookie}, {"manifold-csrf": csrf}

    def heard(self, case, response):
        if response.status_code == 401 and response.json()["code"] == "invalid_session":
            self.session = None
        if response.status_code != 200:
            return
        if operation_id(case) == "changePassword":
            self.password = case.body["new"]
        if operation_id(case) in ("changePassword", "stepUp", "switchTenant"):
            [line] = response.headers.get("set-cookie", [None])
            # Who asked for tokens has no session any more.
            self.session = line and session_of(line, response.json())


def session_of(line, body):
    """The cookie that was set, and the token that goes with it."""
    return line.split(";")[0].split("=", 1)[1], body["csrf"]


def operation_id(case):
    return case.operation.definition.raw.get("operationId")


caller = Person() if "CONTRACT_EMAIL" in os.environ else Key()
