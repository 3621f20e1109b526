"""litellm as its users write it: an answer, a stream, a form, a tool. Prints what came as JSON."""

from __future__ import annotations

import json
import sys

import litellm

PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
FORM = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
TOOL = {"type": "function", "function": {"name": "who", "parameters": PERSON}}


def main(base: str, model: str) -> None:
    """Ask the server at `base`."""
    litellm.suppress_debug_info = True
    asked = {
        "model": f"openai/{model}", "api_base": f"{base}/v1", "api_key": "none", "temperature": 0,
        "messages": [{"role": "user", "content": "Say hi."}],
    }  # fmt: skip
    answer = litellm.completion(**asked, max_tokens=24)
    pieces = litellm.completion(**asked, max_tokens=24, stream=True)
    formed = litellm.completion(**asked, max_tokens=160, response_format=FORM)
    called = litellm.completion(
        **asked, max_tokens=160, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    print(
        json.dumps(
            {
                "answer": answer.choices[0].message.content,
                "tokens": answer.usage.completion_tokens,
                "streamed": "".join(piece.choices[0].delta.content or "" for piece in pieces),
                "forms": {"json_schema": json.loads(formed.choices[0].message.content)},
                "called": [
                    [call.function.name, sorted(json.loads(call.function.arguments))]
                    for call in called.choices[0].message.tool_calls
                ],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
