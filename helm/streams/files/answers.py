"""`helm test`: every worker behind the Service must be ready and answer with its statistics."""

import http.client
import json
import os
import socket
import sys
import time

HOST, PORT = os.environ["WORKERS_HOST"], int(os.environ["WORKERS_PORT"])
WAIT_SECONDS = float(os.environ.get("WORKERS_WAIT_SECONDS", "120"))


def ask(address, path):
    """Status and body; http.client, because it never asks a proxy."""
    connection = http.client.HTTPConnection(address, PORT, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def unready():
    """One line for each worker, and how many of them are not ready."""
    addresses = sorted({entry[4][0] for entry in socket.getaddrinfo(HOST, PORT, type=socket.SOCK_STREAM)})
    waiting = 0
    for address in addresses:
        status, health = ask(address, "/health/ready")
        if status != 200:
            waiting += 1
            print(f"{address}: not ready: {health['reason']}", flush=True)
            continue
        status, stats = ask(address, "/stats")
        if status != 200:
            raise OSError(f"/stats answers {status}")
        print(f"{address}: {stats['state']}, {len(stats['partitions'])} partitions, lag {stats['lag']}", flush=True)
    return waiting


deadline = time.monotonic() + WAIT_SECONDS
while True:
    try:
        if not unready():
            break
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{HOST}:{PORT}: {error}", flush=True)
    if time.monotonic() > deadline:
        sys.exit(f"The workers were not all ready after {WAIT_SECONDS:.0f} s: look at their logs.")
    time.sleep(2)
