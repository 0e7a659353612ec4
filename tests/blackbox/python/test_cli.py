"""The command line, against the running gateway or without any."""

import json
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from conftest import client_of

HELLO = [{"role": "user", "content": "say hello"}]


def manifold(*arguments, **settings):
    env = {"PATH": os.environ["PATH"], **settings}
    command = [os.environ["BLACKBOX_BINARY"], *arguments]
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def running():
    """Settings with which the command line finds the gateway that runs."""
    listen = urlsplit(os.environ["BLACKBOX_AIMOCK_URL"]).netloc
    return {"MANIFOLD_DATA_DIR": os.environ["BLACKBOX_AIMOCK_DATA"], "MANIFOLD_EDGE__LISTEN": listen}


def test_a_key_works_until_it_is_revoked(running):
    secret = manifold("keys", "create", "black-box", **running).stdout.strip()
    client = client_of("AIMOCK", api_key=secret)

    answer = client.chat.completions.create(model="manifold/echo", messages=HELLO)
    listed = manifold("keys", "list", **running).stdout
    key = next(line.split()[0] for line in listed.splitlines() if "black-box" in line)
    revoked = manifold("keys", "revoke", key, **running)

    assert answer.choices[0].message.content == "say hello"
    assert secret not in listed
    assert revoked.returncode == 0
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="manifold/echo", messages=HELLO)


def test_a_key_for_inference_cannot_make_keys(running):
    secret = manifold("keys", "create", "only-chats", **running).stdout.strip()
    client = client_of("AIMOCK", api_key=secret)

    with pytest.raises(openai.PermissionDeniedError):
        client.post("/keys", body={"name": "more"}, cast_to=object)


def test_a_running_server_is_ready(running):
    assert manifold("status", "--quiet", **running).returncode == 0


def test_a_misspelled_setting_stops_the_start(tmp_path):
    done = manifold("serve", MANIFOLD_DATA_DIR=str(tmp_path), MANIFOLD_EDGE__LISTNE="127.0.0.1:1")

    assert done.returncode == 2
    assert "MANIFOLD_EDGE__LISTNE" in done.stderr
    assert "edge.listen" in done.stderr


def test_doctor_tells_what_is_wrong(tmp_path):
    well = manifold("doctor", "--offline", MANIFOLD_DATA_DIR=str(tmp_path / "data"))
    ill = manifold("doctor", "--offline", "--json", MANIFOLD_DATA_DIR=str(tmp_path), MANIFOLD_EDGE__LISTEN="nowhere")

    assert well.returncode == 0, well.stdout
    assert ill.returncode == 1
    assert any(finding["state"] == "fail" and finding["remedy"] for finding in json.loads(ill.stdout))


def test_the_contract_can_be_printed():
    document = json.loads(manifold("openapi").stdout)

    assert document["openapi"].startswith("3.1")
    assert "post" in document["paths"]["/v1/chat/completions"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_completions(shell):
    assert "manifold" in manifold("completions", shell).stdout


ADDRESS = {
    "MANIFOLD_EDGE__LIMITS__POLICIES__ADDRESS__QUOTA": "1200",
    "MANIFOLD_EDGE__LIMITS__POLICIES__ADDRESS__WINDOW": "60s",
}
LIMIT = {"MANIFOLD_EDGE__LIMITS__PER_KEY__QUOTA": "600", "MANIFOLD_EDGE__LIMITS__PER_KEY__WINDOW": "60s"}

# What a variable of .env.example needs beside it, and values for those that are shown empty.
COMPANY = {
    "MANIFOLD_AI__PROVIDERS__ACME__API_KEY": {"MANIFOLD_AI__PROVIDERS__ACME__BASE_URL": "https://llm.acme.example/v1"},
    "MANIFOLD_MESH__AI_ROUTER": {"MANIFOLD_MESH__SECRET": "sixteen-characters"},
    "MANIFOLD_MESH__IDENTITY": {"MANIFOLD_MESH__SECRET": "sixteen-characters"},
    "MANIFOLD_EDGE__LIMITS__PER_KEY__QUOTA": {"MANIFOLD_EDGE__LIMITS__PER_KEY__WINDOW": "60s"},
    "MANIFOLD_EDGE__LIMITS__PER_KEY__WINDOW": {"MANIFOLD_EDGE__LIMITS__PER_KEY__QUOTA": "600"},
    "MANIFOLD_EDGE__LIMITS__PER_KEY__BURST": LIMIT,
    "MANIFOLD_EDGE__LIMITS__PER_KEY__ALGORITHM": LIMIT,
    "MANIFOLD_EDGE__LIMITS__PER_KEY__MODE": LIMIT,
    "MANIFOLD_EDGE__LIMITS__PER_KEY__ON_STORE_FAILURE": LIMIT,
    "MANIFOLD_EDGE__LIMITS__POLICIES__ADDRESS__PER": ADDRESS,
    "MANIFOLD_EDGE__LIMITS__POLICIES__ADDRESS__QUOTA": ADDRESS,
    "MANIFOLD_EDGE__LIMITS__POLICIES__ADDRESS__WINDOW": ADDRESS,
    "MANIFOLD_EDGE__LIMITS__POLICIES__ADDRESS__ROUTES": ADDRESS,
    "MANIFOLD_MAIL__URL": {"MANIFOLD_EDGE__PUBLIC_URL": "https://api.example"},
    "MANIFOLD_BUS__NATS_URL": {"MANIFOLD_STORE__URL": "postgres://manifold@127.0.0.1/manifold"},
}


def test_every_variable_of_the_example_is_known(tmp_path):
    text = (Path(__file__).resolve().parents[3] / ".env.example").read_text()
    key = manifold("keys", "generate").stdout.strip()
    variables = re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE)

    refused = {}
    for name, shown in variables:
        settings = {**COMPANY.get(name, {}), name: shown or key, "HOME": str(tmp_path)}
        done = manifold("config", "check", **settings)
        if done.returncode != 0:
            refused[name] = done.stderr

    assert len(variables) > 60
    assert refused == {}
