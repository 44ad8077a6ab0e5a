"""The Litestream example: keys that Litestream knows, and the ledger that our own examples name."""

import re
from pathlib import Path

from ruamel.yaml import YAML

FILE = Path(__file__).parents[2] / "deploy" / "litestream" / "litestream.yml"
KEYS = {
    "": {"snapshot", "dbs"},
    "snapshot": {"interval", "retention"},
    "dbs": {"path", "replica"},
    "replica": {
        *("type", "bucket", "path", "endpoint", "region", "force-path-style"),
        *("access-key-id", "secret-access-key", "sync-interval"),
    },
}
"""Of the keys in Litestream's reference (v0.5) those that are used; a key it does not know would be passed over."""


def test_the_example_uses_keys_that_litestream_knows():
    config = YAML(typ="safe", pure=True).load(FILE.read_text("utf-8"))
    (database,) = config["dbs"]
    assert set(config) == KEYS[""]
    assert set(config["snapshot"]) == KEYS["snapshot"]
    assert set(database) == KEYS["dbs"]
    assert set(database["replica"]) == KEYS["replica"]
    for written in (*config["snapshot"].values(), database["replica"]["sync-interval"]):
        assert re.fullmatch(r"\d+(s|m|h)", written)


def test_no_secret_stands_in_the_example():
    replica = YAML(typ="safe", pure=True).load(FILE.read_text("utf-8"))["dbs"][0]["replica"]
    for name in ("bucket", "endpoint", "region", "access-key-id", "secret-access-key"):
        assert re.fullmatch(r"\$\{LITESTREAM_[A-Z_]+\}", replica[name])


def test_it_copies_the_ledger_that_its_own_words_name():
    text = FILE.read_text("utf-8")
    path = YAML(typ="safe", pure=True).load(text)["dbs"][0]["path"]
    assert f'"sqlite:///{path}"' in text
    assert f"{path}-unsettled.jsonl" in text
