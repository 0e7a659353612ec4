"""What texts look like for which the contract names a format."""

import ipaddress
from datetime import datetime

import schemathesis
from hypothesis import strategies as st
from hypothesis.provisional import domains

ROLES = ["owner", "admin", "developer", "viewer"]
PERMISSIONS = ["keys.key.read", "keys.key.write", "ai.inference.run", "users.user.read"]
CONDITIONS = ["principal.mfa", "request.hour >= 8 && request.hour < 18", 'inNetwork(request.ip, "10.0.0.0/8")']

ips = st.ip_addresses().map(str)
permissions = st.sampled_from(PERMISSIONS)


def network(address, bits):
    return str(ipaddress.ip_network((address, min(bits, address.max_prefixlen)), strict=False))


def in_future(time):
    return time.isoformat(timespec="seconds") + "Z"


FORMATS = {
    "cel": st.sampled_from(CONDITIONS),
    # Most times are ends of something, which must lie in the future.
    "date-time": st.datetimes(datetime(2100, 1, 1), datetime(2190, 1, 1)).map(in_future),
    "duration": st.one_of(st.integers(0, 30).map("P{}D".format), st.integers(0, 720).map("PT{}H".format)),
    "ip": ips,
    "network": st.builds(network, st.ip_addresses(), st.integers(8, 128)),
    "origin": domains().map(lambda host: f"https://{host.lower()}"),
    "password": st.integers(0, 999_999).map(lambda number: f"correct {number} horse battery staple"),
    "permission-query": st.one_of(permissions, st.builds("{} AND ({} OR {})".format, permissions, permissions, permissions)),
    "role": st.sampled_from(ROLES),
    "window": st.integers(1, 86_400).map("{}s".format),
}

for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)
