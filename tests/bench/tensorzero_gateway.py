"""Serves TensorZero's gateway with the configuration file that is named, prints its address and stays until it is stopped.

Its package carries the gateway as a library that serves HTTP on a port of its own choice, and no program.
"""

import sys
import threading
from types import SimpleNamespace

from tensorzero import patch_openai_client

# Any object will do for the client: all that happens to it is that it is given the address.
client = SimpleNamespace()
patch_openai_client(client, config_file=sys.argv[1], async_setup=False)
print(client.base_url, flush=True)
threading.Event().wait()
