"""What is done to each request while the contract is tested, so that it is answered by what it asks for."""

import itertools

import schemathesis
import schemathesis_formats  # noqa: F401  registers what texts look like
from schemathesis_caller import OWN, SPARE, addresses, caller, operation_id

numbers = itertools.count()
# What was used up: names of things that were made, keys of requests.
used = set()
# List → the last cursor that it gave.
cursors = {}


@schemathesis.auth(refresh_interval=None)
class Credentials:
    def get(self, case, _context):
        return caller.credentials()

    def set(self, case, credentials, _context):
        cookies, headers = credentials
        case.cookies.update(cookies)
        case.headers.update({**headers, "X-Forwarded-For": next(addresses)})
        spare_the_caller(case)
        if case.meta.generation.mode.is_positive:
            know(case)
        elif "Idempotency-Key" in case.headers:
            used.add(case.headers["Idempotency-Key"])


@schemathesis.hook
def after_call(_context, case, response):
    caller.heard(case, response)
    if operation_id(case).startswith("list") and response.status_code == 200:
        cursors[list_of(case)] = response.json().get("next_cursor")


@schemathesis.hook
def before_load_schema(_context, raw_schema):
    """The format of a number says nothing of null, but bad requests are made of it with null."""
    match raw_schema:
        case {"type": [*kinds], "format": _} if "integer" in kinds:
            del raw_schema["format"]
    for part in raw_schema.values() if isinstance(raw_schema, dict) else raw_schema if isinstance(raw_schema, list) else ():
        before_load_schema(_context, part)


def spare_the_caller(case):
    """What would shut the caller out is done to something else."""
    about = (case.path_parameters or {}).get
    match operation_id(case):
        case "updateKey" | "revokeKey" | "rotateKey" if about("id") == OWN["KEY"]:
            case.path_parameters["id"] = SPARE["KEY"]
        case "setLimits" if about("subject") in ("tenant", OWN["KEY"], OWN["USER"]):
            case.path_parameters["subject"] = SPARE["KEY"]
        # It might ask everybody for a second factor.
        case "updateTenant" if about("id") == OWN["TENANT"]:
            case.path_parameters["id"] = SPARE["TENANT"]
        case "deleteOwner" if about("id") == OWN["OWNER"]:
            case.path_parameters["id"] = SPARE["OWNER"]


def know(case):
    """What no schema can tell, and who calls knows."""
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = fresh(case.headers["Idempotency-Key"])
    if case.query and case.query.pop("cursor", None) is not None and cursors.get(list_of(case)):
        case.query["cursor"] = cursors[list_of(case)]
    # In place: what is assigned anew counts as another body.
    in_our_words(case.body)
    match operation_id(case):
        case "createKey" | "updateKey":
            if case.body.get("owner"):
                case.body["owner"] = OWN["OWNER"]
            # Times of the past come from answers.
            if case.body.get("expires_at") and case.body["expires_at"] < "2100":
                case.body["expires_at"] = "2100-01-01T00:00:00Z"
        case "createOwner":
            case.body["external_id"] = fresh(case.body["external_id"])
        case "createRole":
            case.body["name"] = fresh(case.body["name"])
        case "createTenant":
            case.body["slug"] = fresh(case.body["slug"])
            if not caller.is_person:
                case.body["owner"] = case.body.get("owner") or "grace@example.org"
        case "stepUp" | "changeEmail":
            case.body["password"] = caller.password
        case "changePassword":
            case.body["current"] = caller.password
        # In another tenant the caller would be refused everything.
        case "switchTenant":
            case.body["tenant"] = OWN["TENANT"]


def fresh(text):
    """This one, or another one if it was used: what was done once can be done again."""
    if text in used:
        text = f"another-{next(numbers)}"
    used.add(text)
    return text


def in_our_words(value):
    """For JSON Schema 1.0 is an integer, but not for us."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case list():
            value[:] = [in_our_words(one) for one in value]
        case dict():
            value.update({name: in_our_words(one) for name, one in value.items()})
    return value


def list_of(case):
    """A cursor belongs to a path and to what was searched for."""
    return case.path, str(sorted((name, text) for name, text in (case.query or {}).items() if name not in ("cursor", "limit")))
