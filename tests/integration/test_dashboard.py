"""The page at `/` of a real worker in a real Chromium, and `/stats` against its schema."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, Final, Literal

import pytest
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser, Page, expect

from tests.conftest import MakeTopic, Produce, require
from tests.integration.actions import TOKEN, post
from tests.integration.conftest import StartWorker
from tests.services.browser import DESKTOP, PHONE, chromium, visit
from tests.services.install import CHROMIUM, ROOT
from tests.services.kafka import KafkaBroker
from tests.services.s3_faults import ENTITY_TOO_LARGE, SERVICE_UNAVAILABLE, always, matching
from tests.services.s3_proxy import S3FaultProxy
from tests.services.waiting import wait_until
from tests.services.worker import WorkerProcess

SCHEMA = ROOT / "docs" / "stats.schema.json"
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
A_LINE = re.compile(r"M[\d. ]+[Lh][\d. ]+")
"""A path of at least one point."""
EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of this file; without one they are skipped, in CI they fail."""
    require(CHROMIUM)
    with chromium() as found:
        yield found


def address(worker: WorkerProcess) -> str:
    """Of the worker's page."""
    return f"http://127.0.0.1:{worker.web_port}/"


def figure(page: Page, name: str) -> str:
    """A figure of the first panel, as it is shown."""
    return page.locator(".figure", has=page.get_by_text(name, exact=True)).locator(".value").inner_text()


@pytest.fixture
def troubled_worker(
    make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> WorkerProcess:
    """Of 60 events 58 are durable, one is in the dead letters and one is being retried; actions are allowed."""
    topic = make_topic(2)
    produce(topic, [b"%04d" % number for number in range(30)], partition=0)
    produce(topic, [b"%04d" % number for number in range(30)], partition=1)
    too_large = matching(f"^{topic}/0/{3:020d}", ENTITY_TOO_LARGE)
    away = matching(f"{topic}/1/{7:020d}", SERVICE_UNAVAILABLE)
    s3_proxy.rule = lambda request: too_large(request) or away(request)
    settings = {
        "STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url,
        "STREAMS_RETRY_MAX_SECONDS": "0.5",
        "STREAMS_ADMIN_TOKEN": TOKEN,
    }
    worker = start_worker(topic, settings)
    wait_until(
        lambda: worker.stats()["totals"]["events"] == 58 and worker.stats()["totals"]["dead_letters"] == 1,
        20,
        worker.log_tail,
    )
    wait_until(lambda: worker.stats()["lag"] == 23, 20, lambda: f"{worker.stats()}")
    return worker


def undescribed(schema: dict[str, Any], where: str = "") -> list[str]:
    """The fields of a schema that nothing is said of, and the objects that would let undocumented ones through."""
    found = [] if "description" in schema or not where else [where]
    if "properties" in schema:
        if schema["additionalProperties"] is not False or schema["required"] != list(schema["properties"]):
            found.append(f"{where} is not closed")
        for name, field in schema["properties"].items():
            found += undescribed(field, f"{where}/{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            found += undescribed(schema[inner], f"{where}/{inner}")
    return found


def test_schema_documents_every_field() -> None:
    """It is a valid schema, describes each field, and lets nothing through that it does not describe."""
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    assert [] == undescribed(schema)


def test_stats_are_as_the_schema_says(troubled_worker: WorkerProcess) -> None:
    """The document of a worker with errors, dead letters and an administrator has just what is documented."""
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    post(troubled_worker, "/admin/log-level", {"level": "warning"})
    document = troubled_worker.stats()
    assert [] == [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    assert {"retried", "dead letter"} == {error["kind"] for error in document["errors"]}
    assert ["log_level"] == [change["what"] for change in document["administration"]["changes"]]
    del document["lag"]
    document["new"] = 1
    assert 2 == len(list(validator.iter_errors(document))), "the validator would notice"


def test_stats_of_a_starting_worker_are_as_the_schema_says(
    make_topic: MakeTopic, start_worker: StartWorker, group: str
) -> None:
    """Also where nothing is known yet, or nothing was set."""
    worker = start_worker(make_topic())
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    document = worker.stats()
    assert [] == [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    assert (None, group) == (document["administration"], document["worker"]["group"])


def brightness(page: Page) -> float:
    """Of the page's background, 0 to 255."""
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3


def wider_than_the_window(page: Page) -> list[str]:
    """The elements that stick out at the right."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("main *:not(svg *)")]
            .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
            .map((one) => one.outerHTML.slice(0, 100))"""
    )
    return found


def test_page_is_clean(browser: Browser, troubled_worker: WorkerProcess) -> None:
    """Light and dark, on a desk and on a phone: no console error, no violation of the policy, no request elsewhere,
    nothing wider than the window; it goes on by itself, and a chart can be read at the pointer."""
    wait_until(lambda: json.loads(troubled_worker.get("/dashboard/history")[1])["time"], 20, troubled_worker.log_tail)
    with visit(browser, address(troubled_worker)) as seen:
        page = seen.page
        as_of = page.locator("time").inner_text()
        expect(page.locator("time")).not_to_have_text(as_of, timeout=10_000)
        for scheme, window in itertools.product(SCHEMES, (DESKTOP, PHONE)):
            page.set_viewport_size(window)
            page.emulate_media(color_scheme=scheme)
            page.locator(".area").first.hover()
            expect(page.locator(".readout").first).to_contain_text("events")
            assert ([], 0) == (wider_than_the_window(page), seen.overflow_pixels)
            assert (scheme == "light") == (brightness(page) > 128)
        assert ([], {"127.0.0.1"}) == (seen.complaints, seen.hosts)


def test_policy_stops_what_is_injected(browser: Browser, troubled_worker: WorkerProcess) -> None:
    """An inline script does not run, and the test above would hear of it."""
    with visit(browser, address(troubled_worker)) as seen:
        seen.page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.injected = true";
                document.body.append(script);
            }"""
        )
        wait_until(lambda: seen.page.evaluate("1") and seen.complaints, 5, "no complaint")
        assert "Content Security Policy" in seen.complaints[0]
        assert seen.page.evaluate("window.injected") is None


def test_values_move_when_events_flow(
    browser: Browser, make_topic: MakeTopic, produce: Produce, start_worker: StartWorker
) -> None:
    """Within seconds, without a reload: events, size and the chart's line."""
    topic = make_topic()
    worker = start_worker(topic)
    with visit(browser, address(worker)) as seen:
        written = seen.page.locator(".figure", has_text="Written").locator(".value")
        expect(written).to_have_text("0")
        produce(topic, [b"x" * 100] * 1500, partition=0)
        expect(written).to_have_text("1,500", timeout=15_000)
        expect(seen.page.get_by_role("row", name=topic).last).to_contain_text("146 KiB")
        line = seen.page.locator('[data-chart="rate"] path.main')
        expect(line).to_have_attribute("d", A_LINE, timeout=15_000)
        assert [] == seen.complaints


def test_page_without_javascript_is_a_readable_table(browser: Browser, troubled_worker: WorkerProcess) -> None:
    """Everything is there but the forms, and it loads itself again."""
    document = troubled_worker.stats()
    topic = document["partitions"][0]["topic"]
    with visit(browser, address(troubled_worker), java_script_enabled=False) as seen:
        page = seen.page
        rows = page.get_by_role("table").first.get_by_role("row").all_inner_texts()
        assert [f"{topic}/0", f"{topic}/1"] == [row.split()[0] for row in rows[1:]]
        assert "23" == figure(page, "Lag")
        assert 4 == page.get_by_role("img").count()
        expect(page.locator("#admin-forms")).to_be_hidden()
        refreshing = page.locator('meta[http-equiv="refresh"]')
        assert 1 == refreshing.count()
        assert [] == seen.complaints


def test_markup_in_topics_and_errors_is_shown_as_text(
    browser: Browser, broker: KafkaBroker, produce: Produce, start_worker: StartWorker
) -> None:
    """A key that is a script reaches the page in an error message, and stays text there, also after a refresh."""
    topic = "evil-" + "x" * 200
    broker.create_topic(topic, 1)
    template = {
        "STREAMS_OBJECT_KEY_TEMPLATE": "{value.id}/" + EVIL.replace("/", "") + "{value.none}/{offset}",
        "STREAMS_ALLOW_OVERWRITE": "true",
        "STREAMS_KAFKA_CLIENT_ID": EVIL,
    }
    produce(topic, [b'{"id": "%s"}' % EVIL.encode()], partition=0)
    worker = start_worker(topic, template)
    wait_until(lambda: worker.stats()["totals"]["dead_letters"] == 1, 20, worker.log_tail)
    with visit(browser, address(worker)) as seen:
        as_of = seen.page.locator("time").inner_text()
        expect(seen.page.locator("time")).not_to_have_text(as_of, timeout=10_000)
        assert EVIL in seen.page.locator(".who").inner_text()
        assert 1 == seen.page.locator("script").count()
        for window in (DESKTOP, PHONE):
            seen.page.set_viewport_size(window)
            assert 0 == seen.overflow_pixels
        assert [] == seen.complaints


def test_outage_shows_the_oldest_event_and_why_it_waits(
    browser: Browser, make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> None:
    """Whoever looks in an outage is told at once what stands still, why, and what to do; then that it is over."""
    topic = make_topic()
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_RETRY_MAX_SECONDS": "0.5"})
    produce(topic, [b"before"], partition=0)
    wait_until(lambda: worker.stats()["totals"]["events"] == 1, 20, worker.log_tail)
    s3_proxy.rule = always(SERVICE_UNAVAILABLE)
    produce(topic, [b"x"] * 5, partition=0)
    wait_until(lambda: worker.stats()["state"] == "holding", 20, worker.log_tail)
    with visit(browser, address(worker)) as seen:
        page = seen.page
        oldest = page.locator("section", has=page.get_by_role("heading", name="Oldest unfinished event"))
        expect(oldest).to_contain_text(f"{topic}/0, offset 1")
        expect(oldest).to_contain_text("throttled")
        expect(oldest).to_contain_text("Service is unable to handle request.")
        expect(page.locator("#conditions")).to_contain_text("The sink only fails at the moment")
        expect(page.locator("#conditions")).to_contain_text(re.compile(r"for \d+"))
        assert "Nothing: it is retried" in page.locator("#conditions .remedy").inner_text()
        bottom = page.locator("#conditions").evaluate("one => one.getBoundingClientRect().bottom")
        assert bottom < DESKTOP["height"], "above the fold"
        expect(page.locator(".errors")).to_contain_text("Nothing: it is retried")
        s3_proxy.rule = None
        expect(page.locator(".state")).to_have_text("running", timeout=15_000)
        expect(oldest).to_contain_text("Nothing waits", timeout=15_000)
        expect(page.locator("#conditions li")).to_have_count(0, timeout=15_000)


def test_outage_in_which_a_worker_starts_is_shown_too(
    browser: Browser, make_topic: MakeTopic, produce: Produce, start_worker: StartWorker, s3_proxy: S3FaultProxy
) -> None:
    """It may not begin before it knows whose events the bucket holds: the page says so, and that S3 is the reason."""
    topic = make_topic()
    s3_proxy.rule = always(SERVICE_UNAVAILABLE)
    produce(topic, [b"x"] * 5, partition=0)
    worker = start_worker(topic, {"STREAMS_S3_ENDPOINT_URL": s3_proxy.endpoint_url, "STREAMS_RETRY_MAX_SECONDS": "0.5"})
    wait_until(lambda: worker.stats()["state"] == "holding", 20, worker.log_tail)
    with visit(browser, address(worker)) as seen:
        conditions = seen.page.locator("#conditions")
        expect(conditions).to_contain_text("The bucket cannot be asked whose events it holds, so 1 partition is not")
        expect(conditions).to_contain_text("Service is unable to handle request.")
        s3_proxy.rule = None
        expect(seen.page.locator(".state")).to_have_text("running", timeout=15_000)
        expect(conditions.locator("li")).to_have_count(0, timeout=15_000)
    wait_until(lambda: worker.stats()["totals"]["events"] == 5, 20, worker.log_tail)


def test_worker_that_is_gone_is_not_shown_as_well(
    browser: Browser, make_topic: MakeTopic, start_worker: StartWorker
) -> None:
    """A page that gets no answer says so, and since when."""
    worker = start_worker(make_topic())
    with visit(browser, address(worker)) as seen:
        worker.kill()
        expect(seen.page.locator("#connection")).to_contain_text("No answer since", timeout=15_000)


def test_actions_from_the_page(browser: Browser, troubled_worker: WorkerProcess) -> None:
    """With the token a topic is paused and resumed, and the most writes in flight change; a wrong one is refused."""
    topic = troubled_worker.stats()["partitions"][0]["topic"]
    with visit(browser, address(troubled_worker)) as seen:
        page = seen.page
        answer = page.locator("#admin-answer")
        page.get_by_role("button", name="Pause").click()
        expect(answer).to_have_text("Enter the token first.")
        page.get_by_label("Token").fill("not-the-right-token")
        page.get_by_role("button", name="Pause").click()
        expect(answer).to_contain_text("Refused (401)")
        assert ["401"] == [part for text in seen.complaints for part in text.split() if part == "401"]
        seen.complaints.clear()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#notices")).to_contain_text(f"{topic}: paused on this worker by an administrator since")
        assert [True, True] == [partition["paused"] for partition in troubled_worker.stats()["partitions"]]
        page.get_by_role("button", name="Resume").click()
        expect(answer).to_contain_text("paused → running")
        page.get_by_label("Most writes in flight").fill("7")
        page.get_by_label("Most writes in flight").press("Enter")
        expect(answer).to_contain_text("1000 → 7")
        assert 7 == troubled_worker.stats()["writes"]["maximum"]
        page.get_by_label("Log level").select_option("error")
        page.locator('form[data-action="log-level"] button').click()
        expect(answer).to_contain_text("info → error")
        assert TOKEN == page.get_by_label("Token").input_value(), "a refresh leaves the form alone"
        assert ([], {"127.0.0.1"}) == (seen.complaints, seen.hosts)
        assert all(TOKEN not in request for request in seen.requests)
    assert TOKEN not in troubled_worker.log()
    assert "127.0.0.1 changed max_in_flight: 1000 → 7" in troubled_worker.log()
    assert "127.0.0.1 was refused /admin/pause" in troubled_worker.log()
