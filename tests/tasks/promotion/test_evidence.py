"""Evidence: what it survives, and how a log is followed."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.promotion import evidence
from tasks.promotion.evidence import Evidence, Exchange, Tail
from tasks.serve.log.prediction_log import NAME, Prediction, PredictionLog


def prediction(number: int, version: str = "1", **changes: object) -> Prediction:
    values = {
        "request_id": f"req-{number}", "when": "2026-01-01T00:00:00+00:00", "version": version, "slot": "blue",
        "endpoint": "/v1/completions", "outcome": "ok", "finish": "stop", "prompt_sha256": "0" * 64,
        "prompt_tokens": 3, "new_tokens": 4, "first_token_ms": 5.0, "inter_token_ms": 1.0, "whole_ms": 9.0,
        "confidence": 0.5,
    }  # fmt: skip
    return Prediction.model_validate(values | changes)


def test_evidence_outlives_the_router_and_a_log_that_turns(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "blue", 2000, 3)
    seen = Evidence(tmp_path / "router", [tmp_path / "blue"])
    for number in range(20):  # several files
        log.add(prediction(number))
        seen.note(Exchange(when=10.0 + number, request_id=f"req-{number}", version="1", kind="live", ok=number != 3))
        seen.refresh()
    seen.note(Exchange(when=40.0, request_id="probe-1", version="1", kind="probe", ok=True, agreement=0.7))
    arm = seen.arm("1", 15.0)
    assert (arm.requests, arm.errors, list(arm.agreement)) == (16, 0, [0.7])
    assert len(seen.arm("1", 0.0).first_ms) == 20 and seen.arm("1", 0.0).errors == 1
    assert seen.arm("1", 0.0, ("probe",)).requests == 1 and seen.arm("2", 0.0).requests == 0
    seen.close()
    again = Evidence(tmp_path / "router", [tmp_path / "blue"])
    assert again.arm("1", 0.0).requests == 21
    again.close()


def test_a_tail_gives_whole_lines_once(tmp_path: Path) -> None:
    file = tmp_path / NAME
    tail = Tail(file)
    assert tail.lines() == []
    file.write_bytes(b"a\nb")
    assert tail.lines() == [b"a"]
    with file.open("ab") as stream:
        stream.write(b"c\n")
    assert tail.lines() == [b"bc"] and tail.lines() == []


def test_texts_that_can_be_compared() -> None:
    assert evidence.texts_of(json.dumps({"choices": [{"text": "x"}]}).encode()) == "x"
    assert evidence.texts_of(b"[1]") == evidence.texts_of(b"{") == ""


def test_calls_of_tools_are_part_of_what_is_compared() -> None:
    def answer(name: str) -> bytes:
        call = {"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        return json.dumps({"choices": [{"message": {"content": None, "tool_calls": [call]}}]}).encode()

    assert evidence.texts_of(answer("rain")) == "rain {}"
    assert evidence.texts_of(answer("rain")) != evidence.texts_of(answer("delete_all"))
