"""Runs local-bigquery 0.4.0 on loopback with the corrections of `corrections.py`, one process a data directory.

It runs in this folder's own environment, which neither has nor needs the rest of the project.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from googlesql.service import cache_directory

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 0.2
EXTENSIONS = ("icu", "ducklake", "spatial", "avro")


def main() -> None:
    parser = argparse.ArgumentParser("warehouse", description="BigQuery on a laptop")
    parser.add_argument("--data-dir", type=Path, required=True, help="where tables are kept; tied to its absolute path")
    parser.add_argument("--port", type=int, required=True, help="REST")
    parser.add_argument("--grpc-port", type=int, required=True, help="Storage API")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--project", default="local-dev")
    options = parser.parse_args()

    data = options.data_dir.resolve()
    data.mkdir(parents=True, exist_ok=True)
    lock = (data / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # A second process would start, answer, and then fail on every query.
        sys.exit(f"another warehouse uses {data}: stop it, or choose another --data-dir")

    # DuckDB looks for extensions below the home directory, and downloads what it does not find there. The analyzer's compiled module
    # stays where the user has it: to compile it takes 25 seconds of CPU.
    os.environ["GOOGLESQL_CACHE_DIR"] = str(cache_directory())
    os.environ["HOME"] = str(data)
    _install_extensions(data)
    _serve(options, data)


def _install_extensions(data: Path) -> None:
    installed = data / ".duckdb"
    from duckdb_extensions import import_extension

    present = {path.name.split(".")[0] for path in installed.rglob("*.duckdb_extension")}
    for name in EXTENSIONS:
        if name not in present:
            import_extension(name)


def _serve(options: argparse.Namespace, data: Path) -> None:
    from local_bigquery.settings import settings

    settings.bigquery_host = options.host
    settings.bigquery_port = options.port
    settings.grpc_port = options.grpc_port
    settings.default_project_id = options.project
    settings.data_dir = data / "data"

    import corrections
    import enforcement
    import limits
    import uvicorn
    from local_bigquery import app
    from local_bigquery.engine import database
    from local_bigquery.grpc import server

    corrections.apply(_start_anew)
    limits.enforce()
    judge = enforcement.enforce()
    app.add_api_route("/_strict", lambda: judge.report() if judge else {"switch": "off"}, include_in_schema=False)
    # With several threads to a query, DuckDB 1.5.2 gave its database up in six of ten unions of windows over tables of a DuckLake.
    database.connection().execute("SET threads = 1")
    corrections.end_interrupted_jobs()
    threading.Thread(target=_start_anew_when_broken, args=(database, options.project), daemon=True).start()
    grpc_server, _ = server.start(options.host, options.grpc_port)
    try:
        uvicorn.run(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=3)
    finally:
        grpc_server.stop(None)
        database.connection().close()


def _start_anew() -> None:
    """Replace this process by a new one, as soon as the answers that say so are out."""
    threading.Timer(ANSWER_SECONDS, _replace_process).start()


def _replace_process() -> None:
    print("starting anew", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606


def _start_anew_when_broken(database: Any, project: str) -> None:
    """Replace this process by a new one when DuckDB has given its database up: it refuses every statement from then on.

    What was acknowledged is on disk. Clients see a connection that is reset, and try again.
    """
    import duckdb

    catalogue = database.quote(f"__ducklake_metadata_{project}")
    while True:
        time.sleep(LOOK_SECONDS)
        try:
            database.fetch(f"SELECT max(snapshot_id) FROM {catalogue}.ducklake_snapshot")
        except duckdb.FatalException as error:
            print(f"the database is broken: {error}", file=sys.stderr, flush=True)
            _replace_process()
        except duckdb.Error:
            continue


if __name__ == "__main__":
    main()
