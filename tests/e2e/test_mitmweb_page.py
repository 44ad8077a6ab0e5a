"""mitmweb as an operator sees it: its page in a real Chromium, without a window.

`SOLARIS_TEST_SCREENSHOT=FILE` keeps a picture of what was seen.
"""

import os
import shutil
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from tests.e2e.mitmweb import PASSWORD, Mitmweb
from tests.e2e.wire import openai
from tests.e2e.wire.answers import WHOLE_TEXT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
API_KEY = "sk-proj-4f9a1c77e2"
ASK = {
    "model": "gpt-4o",
    "stream": True,
    "max_tokens": 800,
    "messages": [
        {"role": "system", "content": "Você atende os clientes de uma cafeteria. Seja breve."},
        {"role": "user", "content": "Bom dia! Ainda há café?"},
    ],
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(20_000)
        yield page
        browser.close()


def _ask(web: Mitmweb, user: str) -> httpx.Response:
    headers = web.headers(user) | {"authorization": f"Bearer {API_KEY}"}
    return httpx.post(web.url("openai/v1/chat/completions"), headers=headers, json=ASK, timeout=30, trust_env=False)


def test_an_operator_sees_the_calls_reads_one_and_asks_for_a_balance(web: Mitmweb, page: Page) -> None:
    web.cli("plans", "set", "mini", "--tokens", "5K", "--period", "month")
    web.cli("users", "add", "bruno", "--plan", "mini")
    web.cli("users", "add", "zoe", "--plan", "mini")
    for user, status in (("ana", 200), ("bruno", 200), ("bruno", 200), ("zoe", 200)):
        assert _ask(web, user).status_code == status
    web.cli("users", "block", "zoe")
    assert _ask(web, "zoe").status_code == 429
    web.post("/clear")
    for user, status in (("bruno", 200), ("zoe", 429), ("ana", 200)):
        assert _ask(web, user).status_code == status

    page.goto(web.page)
    expect(page.locator("h1")).to_have_text("403 Authentication Required")
    page.fill("input[type=password]", PASSWORD)
    page.keyboard.press("Enter")
    rows = page.locator(".flow-table tbody tr").filter(has_text="POST")
    expect(rows).to_have_count(3)
    bruno, zoe, ana = (rows.nth(at) for at in range(3))
    expect(bruno.locator(".marker")).to_have_text("🟡")
    expect(bruno.locator(".col-comment")).to_contain_text("bruno@example.com · gpt-4o · 2,006 in + 301 out")
    expect(zoe.locator(".marker")).to_have_text("⛔")
    expect(zoe.locator(".col-comment")).to_contain_text("zoe@example.com · gpt-4o · denied: account_blocked (429)")
    expect(ana.locator(".marker")).to_have_text("🟢")
    total = openai.CHAT.input + openai.CHAT.output
    expect(ana.locator(".col-comment")).to_contain_text(f"= {total:,} tokens (reported)")

    ana.click()
    body = page.locator(".contentview")
    expect(body).to_contain_text("── user ──")
    expect(body).to_contain_text("Bom dia! Ainda há café?")
    expect(page.locator(".flow-detail")).to_contain_text("Bearer [masked]")
    page.get_by_role("link", name="Response").click()
    expect(body).to_contain_text("── assistant ──")
    expect(body).to_contain_text(WHOLE_TEXT)
    expect(body).to_contain_text("── Solaris Meter ──")
    expect(page.locator(".flow-detail")).to_contain_text("View: auto")

    page.get_by_role("link", name="Options").click()
    page.get_by_label("Display Command Bar").check()
    bar = page.locator(".command-input input")
    bar.fill("solaris.balance ana")
    bar.press("Enter")
    left = web.cli("balance", "ana")["available"]
    expect(page.locator(".command-result")).to_contain_text(f"ana (ana@example.com): {left:,} left of 1,000,000")
    assert API_KEY not in page.content()
    if picture := os.environ.get("SOLARIS_TEST_SCREENSHOT"):
        page.locator(".command-result").click()  # away from the bar, whose help would cover half of it
        page.screenshot(path=picture)
