"""The Open Inference Protocol: Triton's own client, and bodies that do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import DataError
from tasks.serve.http import oip
from tests.serving import NAME, Running
from tests.tasks.serve.asking import PROMPT


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client(running: Running, binary: bool) -> None:
    import tritonclient.http as triton

    client = triton.InferenceServerClient(running.base.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(NAME)
    about = client.get_model_metadata(NAME)
    assert (about["inputs"][0]["name"], about["outputs"][0]["name"]) == ("prompt", "text")
    asked = triton.InferInput("prompt", [2], "BYTES")
    asked.set_data_from_numpy(np.array(["Hello", PROMPT], dtype=np.object_), binary_data=binary)
    wanted = [triton.InferRequestedOutput("text", binary_data=binary)]
    answers = [
        client.infer(NAME, [asked], outputs=wanted, parameters={"max_tokens": 6}).as_numpy("text") for _ in range(2)
    ]
    assert answers[0].shape == (2,) and answers[0].tolist() == answers[1].tolist()


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_binary_texts_come_back(texts: list[str]) -> None:
    assert oip.unpacked("x", oip.packed(texts)) == texts


@given(st.binary(max_size=40))
def test_rubbish_is_refused_in_words(raw: bytes) -> None:
    head = json.dumps(
        {
            "inputs": [
                {"name": "prompt", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
            ]
        }
    ).encode()
    try:
        _, prompts = oip.parsed(head + raw, str(len(head)))
    except DataError as error:
        assert "prompt" in str(error)
    else:
        assert oip.packed(prompts) == raw


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({"datatype": "FP32", "data": ["a"]}, "must be BYTES"),
        ({"data": []}, "not empty"),
        ({"data": [""]}, "not empty"),
        ({"data": [1]}, "not empty"),
        ({"data": ["a"], "shape": [2]}, r"which is 2 texts; 1 came"),
        ({"parameters": {"binary_data_size": 4}}, "0 bytes are left"),
        ({"name": "other", "data": ["a"]}, "no input is called prompt"),
    ],
)
def test_tensors_that_do_not_fit(tensor: dict, said: str) -> None:
    body = json.dumps({"inputs": [{"name": "prompt", "datatype": "BYTES", **tensor}]}).encode()
    with pytest.raises(DataError, match=said):
        oip.parsed(body, None)


@pytest.mark.parametrize("length", ["x", "-1", "99999"])
def test_a_header_length_that_cannot_be(length: str) -> None:
    with pytest.raises(DataError, match="inference-header-content-length"):
        oip.parsed(b"{}", length)
