"""MLflow's data base in a project that was copied or moved: it must name the project's own files.

MLflow stores where artifacts are as absolute addresses, and cannot change them. In a copy they would name the
original, whose files a run of the copy would then write and read.
"""

import sqlite3
from pathlib import Path

from microgan.core.errors import UserError

STORE, ARTIFACTS = "mlflow.db", "mlartifacts"  # in the uppermost folder of a project
EXPERIMENT = "microgan"
# Table -> columns with addresses of artifacts, in MLflow's schema.
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
WAIT_S = 60.0  # for another program that has locked the data base


def follow_moved_store(store: Path) -> bool:
    """Let all addresses of artifacts begin with the folder beside the data base, where it is now.

    Parameters
    ----------
    store
        MLflow's data base, a file of SQLite; without one there is nothing to do.

    Returns
    -------
    bool
        Whether addresses were changed.

    Raises
    ------
    UserError
        If the data base cannot be read.
    """
    if not store.is_file():
        return False
    here = (store.resolve().parent / ARTIFACTS).as_uri()
    try:
        with sqlite3.connect(store, timeout=WAIT_S) as data_base:
            known = {
                name for (name,) in data_base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            if "experiments" not in known:
                return False
            query = "SELECT artifact_location FROM experiments WHERE name = ?"
            row = data_base.execute(query, (EXPERIMENT,)).fetchone()
            if row is None or row[0] == here or not str(row[0]).startswith("file:"):
                return False
            for table in ADDRESSES.keys() & known:
                for column in ADDRESSES[table]:
                    _replace(data_base, table, column, row[0], here)
    except sqlite3.Error as error:
        raise UserError(store, "unreadable", f"must be MLflow's data base ({error})") from None
    return True


def _replace(data_base: sqlite3.Connection, table: str, column: str, before: str, now: str) -> None:
    """Replace what addresses begin with; names of tables and columns are those above, not from outside."""
    set_clause = f"{column} = ? || substr({column}, ?)"
    where = f"{column} = ? OR substr({column}, 1, ?) = ?"
    values = (now, len(before) + 1, before, len(before) + 1, f"{before}/")
    data_base.execute(f"UPDATE {table} SET {set_clause} WHERE {where}", values)
