"""Which alerts fire, which are over, what people are told, and what they are spared."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import notices
from monitoring.collect.windows import Figure, Window
from monitoring.judge.alerts import Alert, Event, evaluate
from monitoring.judge.drift import Verdict
from monitoring.notices import Outbox
from tasks.errors import ConfigError
from tasks.params.watching import Rule


def window(number: int, drift: Verdict = "none", rows: int = 500, **figures: float | Figure | None) -> Window:
    """One of 10 s; a bare number is a figure without an interval."""
    made = {name: one if isinstance(one, Figure) else Figure(value=one, count=rows) for name, one in figures.items()}
    return Window(
        number=number, began=10.0 * number, ended=10.0 * number + 10, version="3", rows=rows, figures=made, drift=drift
    )


def versions(metric: str, values: Sequence[tuple[float | None, str]]) -> list[Window]:
    """Windows of a figure and the version that had it."""
    return [window(n, **{metric: value}).model_copy(update={"version": name}) for n, (value, name) in enumerate(values)]


def rule(**given: object) -> dict[str, Rule]:
    return {"rule": Rule.model_validate({"runbook": "look", **given})}


def course(rules: dict[str, Rule], windows: list[Window]) -> list[str]:
    """What happened in each window: fires, over, or nothing."""
    alerts: tuple[Alert, ...] = ()
    said = []
    for number in range(1, len(windows) + 1):
        alerts, events = evaluate(rules, windows[:number], alerts)
        said.append(events[0].kind if events else "")
    return said


def test_an_alert_fires_once_after_its_hold_time_and_is_over_once() -> None:
    rules = rule(metric="error_rate", above=0.05, windows=2)
    windows = [window(n, error_rate=value) for n, value in enumerate([0.0, 0.2, 0.2, 0.2, 0.0, 0.0])]
    assert course(rules, windows) == ["", "", "fires", "", "over", ""]


def test_a_window_that_cannot_tell_neither_fires_nor_ends_an_alert() -> None:
    rules = rule(metric="first_token_p95_ms", above=100.0)
    windows = [window(n, first_token_p95_ms=value) for n, value in enumerate([50.0, 200.0, None, 50.0])]
    assert course(rules, windows) == ["", "fires", "", "over"]


def test_a_limit_within_the_interval_is_not_broken() -> None:
    wide = Figure(value=0.1, count=20, low=0.03, high=0.3)
    assert course(rule(metric="error_rate", above=0.05), [window(1, error_rate=wide)]) == [""]
    narrow = Figure(value=0.1, count=2000, low=0.09, high=0.11)
    assert course(rule(metric="error_rate", above=0.05), [window(1, error_rate=narrow)]) == ["fires"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 10, 10, 25], ["", "", "", "fires"]),
        ([10, 10, 25], ["", "", ""]),  # too few windows before
        ([10, 10, 10, 19], ["", "", "", ""]),
    ],
)
def test_a_rate_is_against_the_windows_before(values: list[float], expected: list[str]) -> None:
    rules = rule(metric="inter_token_p50_ms", kind="rate", above=2.0)
    assert course(rules, [window(n, inter_token_p50_ms=value) for n, value in enumerate(values)]) == expected


def test_what_goes_on_for_long_does_not_become_usual() -> None:
    rules = rule(metric="inter_token_p50_ms", kind="rate", above=2.0)
    values = [10.0, 10.0, 10.0, *[50.0] * 40, 10.0]
    found = course(rules, [window(n, inter_token_p50_ms=value) for n, value in enumerate(values)])
    assert [place for place, said in enumerate(found) if said] == [3, 43]


def test_windows_without_requests_do_not_make_a_version_known() -> None:
    rules = rule(metric="inter_token_p50_ms", kind="rate", above=2.0)
    values = [*[(10.0, "1")] * 4, *[(None, "2")] * 3, *[(25.0, "2")] * 9]
    found = course(rules, versions("inter_token_p50_ms", values))
    assert {place: said for place, said in enumerate(found) if said} == {7: "fires", 11: "over"}


@pytest.mark.parametrize("since", [3, 6])
def test_what_a_new_version_takes_becomes_usual(since: int) -> None:
    rules = rule(metric="inter_token_p50_ms", kind="rate", above=1.5)
    values = [*[(10.0, "1")] * since, *[(20.0, "1")] * (6 - since), *[(20.0, "2")] * 12]
    found = course(rules, versions("inter_token_p50_ms", values))
    assert found[since] == "fires"
    assert found.count("over") == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([*[(10.0, "1")] * 4, *[(20.0, "2")] * 9], {}),  # a larger version is no leak
        ([*[(10.0, "1")] * 4, *[(20.0, "2")] * 3, (40.0, "2"), (20.0, "2")], {7: "fires", 8: "over"}),
        ([*[(10.0, "1")] * 4, (20.0, "1"), (10.0, "2")], {4: "fires", 5: "over"}),  # it gave way to one as small
        ([*[(10.0, "1")] * 4, (20.0, "1"), *[(20.0, "2")] * 4], {4: "fires", 8: "over"}),  # to one that needs more
    ],
)
def test_memory_is_compared_with_that_of_the_same_version(
    values: list[tuple[float, str]], expected: dict[int, str]
) -> None:
    found = course(rule(metric="memory_mb", kind="rate", above=1.5), versions("memory_mb", values))
    assert {place: said for place, said in enumerate(found) if said} == expected


def test_silence_is_told_only_where_somebody_asked_before() -> None:
    rules = rule(metric="requests_per_s", kind="absent")
    quiet = window(1, rows=0, requests_per_s=0.0)
    assert course(rules, [quiet, quiet]) == ["", ""]
    assert course(rules, [window(0, requests_per_s=4.0), quiet, window(2, requests_per_s=4.0)]) == ["", "fires", "over"]


def test_a_budget_burns_when_both_the_short_and_the_long_look_say_so() -> None:
    rules = rule(metric="error_rate", kind="burn", objective=0.99, above=10.0)
    calm = [window(n, error_rate=0.0) for n in range(8)]
    assert course(rules, [*calm, window(9, error_rate=0.3)])[-1] == ""  # one bad window is not yet the budget
    assert course(rules, [window(n, error_rate=0.3) for n in range(3)])[0] == "fires"


def test_drift_is_an_alert_and_inconclusive_is_none() -> None:
    rules = rule(metric="drift", kind="drift")
    windows = [window(n, drift) for n, drift in enumerate(["none", "drift", "inconclusive", "watch"])]  # type: ignore[arg-type]
    assert course(rules, windows) == ["", "fires", "", "over"]


@pytest.mark.parametrize(
    ("given_rule", "said"),
    [
        ({"metric": "error_rate"}, "needs above or below"),
        ({"metric": "error_rate", "kind": "burn"}, "needs objective and above"),
    ],
)
def test_a_rule_without_its_limit_is_refused(given_rule: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rule(**given_rule)


# -- telling -----------------------------------------------------------------------------------------------------------


def event(number: int, severity: str = "warn") -> Event:
    alert = Alert.model_validate(
        {"name": f"alert-{number}", "metric": "error_rate", "severity": severity, "version": "3", "since": 0.0,
         "windows": 1, "fired": True, "said": "0.2", "runbook": "look"}
    )  # fmt: skip
    return Event(kind="fires", alert=alert)


def test_a_storm_of_a_thousand_alerts_is_a_few_messages_and_says_how_many_there_were() -> None:
    sent: list[str] = []
    outbox = Outbox()
    for turn in range(100):
        news = notices.lines([event(10 * turn + number) for number in range(10)])
        outbox = notices.post(outbox, news, 30.0 * turn, 6, lambda _, text: sent.append(text) is None)
    assert len(sent) == 6
    outbox = notices.post(outbox, (), 3700.0, 6, lambda _, text: sent.append(text) is None)
    assert len(sent) == 7
    assert "and 930 more" in sent[-1]  # 1,000 less the 60 that were told and the ten of this message


def test_the_same_news_twice_is_told_once_and_the_graver_first() -> None:
    made = notices.lines([event(1), event(1), event(2, "page")])
    assert len(made) == 2
    assert made[0].startswith("FIRES [page] alert-2")


def test_what_cannot_be_delivered_waits() -> None:
    outbox = notices.post(Outbox(), ("a",), 0.0, 6, lambda *_: False)
    assert outbox.waiting == ("a",)
    sent: list[str] = []
    assert notices.post(outbox, ("b",), 1.0, 6, lambda _, text: sent.append(text) is None).waiting == ()
    assert sent == ["a\nb"]


@given(st.lists(st.tuples(st.floats(0, 20_000), st.integers(0, 30)), max_size=40), st.integers(1, 8))
def test_no_hour_has_more_messages_than_are_allowed(course: list[tuple[float, int]], per_hour: int) -> None:
    outbox, when = Outbox(), []
    for now, count in sorted(course):
        news = tuple(f"{now}-{number}" for number in range(count))
        outbox = notices.post(outbox, news, now, per_hour, lambda *_, now=now: when.append(now) is None)  # type: ignore[misc]
    assert all(sum(first <= other < first + 3600 for other in when) <= per_hour for first in when)


def test_addresses_come_from_the_environment_and_a_wrong_one_is_named(
    monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[bytes]]
) -> None:
    url, got = webhook
    monkeypatch.setenv("EDGEWRIGHT_PAGER", url)
    assert notices.sender(["EDGEWRIGHT_PAGER"])("title", "the server is slow")
    assert b"the server is slow" in got[0]
    monkeypatch.setenv("EDGEWRIGHT_PAGER", "nonsense")
    with pytest.raises(ConfigError, match="EDGEWRIGHT_PAGER"):
        notices.sender(["EDGEWRIGHT_PAGER"])
    assert notices.sender(["EDGEWRIGHT_NOBODY"])("title", "only the log")


def test_an_e_mail_reaches_a_mail_server(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[str] = []

    class Mail(socketserver.StreamRequestHandler):
        """As much of SMTP (RFC 5321) as one message takes."""

        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            while line := self.rfile.readline().decode():
                word = line.split()[0].upper()
                if word == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    body = []
                    while (line := self.rfile.readline().decode()) != ".\r\n":
                        body.append(line)
                    got.append("".join(body))
                self.wfile.write(b"221 bye\r\n" if word == "QUIT" else b"250 ok\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Mail) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        monkeypatch.setenv("EDGEWRIGHT_MAIL", f"mailto://127.0.0.1:{port}?from=edge@example.com&to=ann@example.com")
        assert notices.sender(["EDGEWRIGHT_MAIL"])("title", "the server is slow")
        server.shutdown()
    assert "ann@example.com" in got[0]
    assert "Subject: title" in got[0]
