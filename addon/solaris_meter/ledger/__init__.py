"""The ledger: who holds how many tokens, and why.

What it is. Accounts, the plans they are on, the grants that give them tokens, the reservations of running calls, the
usage events of finished ones, and the entries that explain every change of a balance.

Model. A *grant* holds tokens (`allowance` and `rollover` come from the plan, `bonus` and `credit` from a person). An
*entry* is one immutable line: what changed a balance, by how much, and the balance after it. Its *postings* say which
grants it filled or burned; a posting without a grant is debt. A *reservation* holds tokens back for one call; it ends
settled (its usage event and usage entry are written), void (nothing was owed) or settled by recovery (its process
died). The id of a reservation is the id of its usage event. *Rates* say how many billed tokens the tokens of a model
cost; a balance is in billed tokens.

Rules.

- Σ entries = balance; Σ postings of a grant = what remains in it; Σ remaining = max(0, balance); debt = max(0,
  -balance).
- Σ pending reservations = reserved.
- Every usage event has exactly one settled reservation and one usage entry of the same billed tokens, which are what
  the rates of the reservation make of the event's usage. A call keeps the rates it began with.
- Grants burn by priority, then earliest expiry, then earliest creation.
- Every operation is one transaction whose first statement writes the account's row: that row is the lock. What no row
  stands for (a user id or reference not used yet, the order of rates) is locked by its name.
- An operation that is repeated with the same id or reference changes nothing the second time.

Time. The clock is an argument (`now_ms`, UTC milliseconds). A period is issued when an account is first touched in it.

What it does not own: HTTP, texts, models and what providers take for them (a cost is handed in), threads (except
`writer`), the clock.

Modules, from the bottom: `database` and `migrations` (SQLite, PostgreSQL), `outbox` (alerts that must leave), `plans`,
`accounts` and `rates` (rows), `entries` (append and post), `grants` (issue, burn, expire), `renewals` (what falls due),
`credits` (tokens by hand), `alerts`, `reservations` (reserve, extend, settle, void, recover), `audits` (counts beside
reports), `reports` and `check` (read only), `writer` (the thread that commits groups), `journal` (settlements that the
database could not take), `ledger` (all of it, as a running process uses it).
"""
