"""The Python part of the demo shop: `python3 FOLDER checkout` is a service, `python3 FOLDER query HOST:PORT` asks a PostgreSQL."""

import importlib
import sys

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("checkout", "query"):
        sys.exit("usage: checkout | query HOST:PORT")
    importlib.import_module(f"shop.{sys.argv[1]}").main(sys.argv[2:])
