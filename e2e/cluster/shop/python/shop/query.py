"""Asks a PostgreSQL for `select 1`, and prints as JSON what it said and how long that took."""

import argparse
import json
import sys
import time

import pg8000.native


def main(arguments):
    parser = argparse.ArgumentParser(prog="query", description=__doc__)
    parser.add_argument("server", metavar="HOST:PORT", nargs="?", default="postgres:5432")
    parser.add_argument("--user", default="postgres")
    parser.add_argument("--sql", default="select 1")
    parser.add_argument("--timeout", type=float, default=5, help="seconds for each step")
    asked = parser.parse_args(arguments)
    host, _, port = asked.server.rpartition(":")
    begun = time.monotonic()
    passed = lambda: round((time.monotonic() - begun) * 1000, 3)
    seen = {"server": asked.server, "ok": False}
    try:
        with pg8000.native.Connection(asked.user, host=host.strip("[]"), port=int(port), timeout=asked.timeout) as connection:
            seen["connect_ms"] = passed()
            seen["rows"] = connection.run(asked.sql)
            seen["took_ms"] = passed()
            seen["ok"] = True
    except (pg8000.exceptions.Error, OSError) as error:
        seen["took_ms"] = passed()
        seen["error"] = str(error)
    json.dump(seen, sys.stdout, default=str)
    print()
    if not seen["ok"]:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
