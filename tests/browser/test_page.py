"""The page at ``/ui``, driven in Chromium in front of a running sidecar."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import StartSidecar
from tests.sidecar import Sidecar
from tests.wire.shop import SETTINGS, TRACE, ask, busy, job

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "there is no chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def shop(start_sidecar: StartSidecar) -> Sidecar:
    sidecar = start_sidecar(SETTINGS)
    sidecar.page("/")
    busy(sidecar)
    return sidecar


@pytest.fixture
def page(browser: Browser, shop: Sidecar) -> Iterator[Page]:
    """Fails if anything went wrong on it, or if it asked anybody else for anything."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    said: list[str] = []
    elsewhere: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on(
        "request",
        lambda request: elsewhere.append(request.url) if urlsplit(request.url).netloc not in ("", shop.admin) else None,
    )
    yield page
    page.close()
    assert said == []
    assert elsewhere == []


def address(sidecar: Sidecar, query: str = "") -> str:
    return f"http://{sidecar.admin}/ui{query}"


def test_a_job_appears_while_one_looks(page: Page, shop: Sidecar) -> None:
    page.goto(address(shop))
    expect(page.locator("#jobs tbody tr")).to_have_count(4)
    expect(page.locator("#state")).to_have_text("live")
    with redis.Redis.from_url(shop.url) as client:
        client.lpush("mail", job("fresh", type="send"))
    expect(page.locator("#jobs tbody tr").first).to_contain_text("fresh")
    expect(page.locator("#jobs tbody tr")).to_have_count(5)


def test_filters_are_in_the_address(page: Page, shop: Sidecar) -> None:
    page.goto(address(shop))
    page.keyboard.press("/")
    page.keyboard.type(TRACE)
    page.keyboard.press("Enter")
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    assert f"trace_id={TRACE}" in page.url
    page.reload()
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.locator("#jobs tbody tr")).to_have_count(4)
    page.goto(address(shop, "?status=dead"))
    expect(page.locator("#jobs tbody tr")).to_contain_text(["bad"])
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#jobs tbody tr")).to_have_count(4)
    page.locator(".tile", has_text="mail").click()
    expect(page.locator("#jobs tbody tr")).to_have_count(2)


def test_bars_are_where_the_times_are(page: Page, shop: Sidecar) -> None:
    page.goto(address(shop))
    expect(page.locator("#jobs tbody tr")).to_have_count(4)
    page.locator("#jobs tbody tr", has_text="bad").click()
    expect(page.locator(".bar")).to_have_count(3)
    trace = ask(shop, f"/api/traces/{ask(shop, '/api/jobs/bad')['trace_id']}")
    spans, stack = {}, list(trace["spans"])
    while stack:
        span = stack.pop()
        spans[span["span_id"]] = span
        stack += span["children"]
    whole = max(one["start_us"] + one["duration_us"] for one in spans.values()) - trace["start_us"]
    bars = page.locator(".bar").evaluate_all(
        """bars => bars.map(bar => {
            const track = bar.parentElement.getBoundingClientRect(), at = bar.getBoundingClientRect();
            return [bar.dataset.spanId, (at.left - track.left) / track.width, at.width / track.width, track.width];
        })"""
    )
    for span_id, left, width, pixels in bars:
        span = spans[span_id]
        assert left == pytest.approx((span["start_us"] - trace["start_us"]) / whole, abs=2 / pixels)
        assert width == pytest.approx(max(span["duration_us"] / whole, 2 / pixels), abs=2 / pixels)
    page.locator(".span").last.click()
    expect(page.locator("#attributes")).to_contain_text("dead_letter")
    expect(page.locator("#facts a")).to_have_attribute("href", trace["trace_url"])
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


def test_by_keys_alone(page: Page, shop: Sidecar) -> None:
    page.goto(address(shop))
    expect(page.locator("#jobs tbody tr")).to_have_count(4)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_names_stay_text(page: Page, shop: Sidecar) -> None:
    with redis.Redis.from_url(shop.url) as client:
        client.lpush(HOSTILE, job(f"{HOSTILE}&amp;", type="<script>alert(2)</script>"))
    page.goto(address(shop))
    row = page.locator("#jobs tbody tr", has_text="&amp;")
    expect(row.locator("td").nth(1)).to_have_text(HOSTILE)
    expect(page.locator(".tile b", has_text=HOSTILE)).to_have_count(1)
    row.click()
    expect(page.locator("#detail h2")).to_have_text(f"Job {HOSTILE}&amp;")
    assert page.locator("img").count() == 0


def test_links_are_http_only(page: Page, shop: Sidecar) -> None:
    page.goto(address(shop))
    assert page.evaluate("safeLink('javascript:alert(1)')") == ""
    assert page.evaluate("safeLink('https://jaeger/trace/1')") == "https://jaeger/trace/1"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits(page: Page, shop: Sidecar, theme: str, width: int, tmp_path: Path) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.goto(address(shop))
    expect(page.locator("#jobs tbody tr")).to_have_count(4)
    expect(page.locator(".tile")).to_have_count(2)
    page.screenshot(path=tmp_path / f"list-{theme}-{width}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#jobs tbody tr", has_text="bad").click()
    expect(page.locator(".bar")).to_have_count(3)
    page.screenshot(path=tmp_path / f"trace-{theme}-{width}.png")
    assert page.evaluate("document.getElementById('detail').scrollWidth") <= width
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is (theme == "light")


def test_with_a_token(browser: Browser, tmp_path: Path, start_sidecar: StartSidecar) -> None:
    """The browser asks for it, and it serves for the page, the API and the stream."""
    file = tmp_path / "token"
    file.write_text("open sesame")
    sidecar = start_sidecar({**SETTINGS, "admin": {"token_file": str(file)}})
    sidecar.page("/")
    context = browser.new_context(http_credentials={"username": "me", "password": "open sesame"})
    page = context.new_page()
    page.goto(address(sidecar))
    expect(page.locator("#state")).to_have_text("live")
    context.close()
    assert json.loads(sidecar.get("/api/jobs").body)["status"] == 401
