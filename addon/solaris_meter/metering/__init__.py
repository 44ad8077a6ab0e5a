"""Bytes to usage to money: what a call asked for, what it used, and whether it may go.

One call, from the outside in: `endpoints` says which dialect speaks on a path; the dialect reads the request
(`dialects`); `admission` reserves, and waits where others hold what is left; `call` follows the answer (`sse`,
`encodings`), extends the reservation and settles; `tokens` counts what nobody reported. `meter` holds these together.

It knows no flow, no SQL and no text for people.
"""
