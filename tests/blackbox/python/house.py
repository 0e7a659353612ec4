"""A gateway of its own with a mail server beside it, where anybody may register, and the people in it."""

import os
import queue
import re
import sys
from email import message_from_bytes
from pathlib import Path

import requests
from aiosmtpd.controller import Controller

sys.path.append(str(Path(__file__).resolve().parents[1]))
from stack import Stack, free_port

PUBLIC_URL = "https://api.example"
PASSWORD = "correct horse battery staple"


class Mailbox:
    """A mail server that keeps what it is given, while the `with` lasts."""

    def __init__(self):
        self.mails = {}

    async def handle_DATA(self, _server, _session, envelope):
        text = message_from_bytes(envelope.content).get_payload(decode=True).decode()
        for address in envelope.rcpt_tos:
            self.of(address).put(text)
        return "250 OK"

    def of(self, address):
        return self.mails.setdefault(address, queue.Queue())

    def token(self, address):
        """What the link of the next mail to this address ends with."""
        while True:
            link = re.search(r"https://\S+#(\S+)", self.of(address).get(timeout=30))
            if link:
                return link[1]

    def __enter__(self):
        # A port that was free a moment ago may be that of somebody's connection now.
        for _ in range(20):
            self.port = free_port()
            self.server = Controller(self, hostname="127.0.0.1", port=self.port)
            try:
                self.server.start()
            except OSError:
                continue
            return self
        raise RuntimeError("no port stays free for a mail server")

    def __exit__(self, *_):
        self.server.stop()


class Caller:
    """Calls the public REST with one caller's headers."""

    def __init__(self, url, **headers):
        self.url, self.headers = url, {name.replace("_", "-"): value for name, value in headers.items()}
        self.http = requests.Session()

    def call(self, method, path, body=None):
        self.http.cookies.clear()
        return self.http.request(method, self.url + path, json=body, headers=self.headers, timeout=30)

    def made(self, method, path, body=None):
        """What was answered to a request that must succeed."""
        answer = self.call(method, path, body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


class House:
    """The gateway: set up by its owner, and open to anybody. Mails go to the mailbox."""

    def __init__(self, stack, mailbox, providers=None, settings=None):
        self.mailbox = mailbox
        self.url, data = stack.house(
            "house",
            edge={
                **(settings or {}),
                "MANIFOLD_EDGE__PUBLIC_URL": PUBLIC_URL,
                "MANIFOLD_EDGE__TRUSTED_PROXIES": '["127.0.0.1"]',
                "MANIFOLD_MAIL__URL": f"smtp://127.0.0.1:{mailbox.port}",
                "MANIFOLD_MAIL__TLS": "none",
                "MANIFOLD_MAIL__FROM": "Manifold <manifold@example.org>",
            },
            router=providers,
        )
        self.nobody = Caller(self.url)
        self.admin = Caller(self.url, Authorization=f"Bearer {(data / 'admin.key').read_text().strip()}")
        ada = {"email": "ada@example.org", "password": PASSWORD, "name": "Ada"}
        self.nobody.made("POST", "/v1/auth/setup", {**ada, "token": (data / "setup.token").read_text().strip()})
        self.owner = self.log_in("ada@example.org")
        tenant = self.owner.made("GET", "/v1/auth/session")["tenant"]
        self.owner.made("PATCH", f"/v1/tenants/{tenant}", {"settings": {"registration": "open"}})

    def log_in(self, email):
        """A browser in which this person is logged in."""
        answer = self.nobody.call("POST", "/v1/auth/login", {"email": email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        cookie = answer.headers["set-cookie"].split(";")[0]
        return Caller(self.url, Cookie=cookie, manifold_csrf=answer.json()["csrf"])

    def register(self, email):
        """A stranger who registers, reads the mail and logs in."""
        asked = self.nobody.call("POST", "/v1/auth/register", {"email": email, "name": "Grace"})
        assert asked.status_code == 202, asked.text
        self.nobody.made("POST", "/v1/auth/verify-email", {"token": self.mailbox.token(email), "password": PASSWORD})
        return self.log_in(email)


def stack_in(folder):
    """Processes of the shape that is tested."""
    return Stack(os.environ["BLACKBOX_SHAPE"], folder, os.environ.get("MANIFOLD_TEST_POSTGRES"))
