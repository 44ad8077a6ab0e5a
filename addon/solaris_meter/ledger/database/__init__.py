"""The engine behind the ledger: connections, transactions, and which processes are alive.

The rest of the ledger writes its SQL once, with `:name` parameters, for `Connection`. Durable in both engines: a commit
that returned survives a power cut. What differs stays in here and in the migrations.

- SQLite (`sqlite`): one writer at a time, whoever it is.
- PostgreSQL (`postgres`): READ COMMITTED, where a transaction waits only for those that hold the same rows. So every
  operation locks its account's row first, and what no row stands for by a name (`Connection.lock`).
"""

from solaris_meter.ledger.database.engine import Connection, Engine, Row
from solaris_meter.ledger.database.sqlite import SqliteEngine
from solaris_meter.ledger.database.url import open_engine, shown

__all__ = ["Connection", "Engine", "Row", "SqliteEngine", "open_engine", "shown"]
