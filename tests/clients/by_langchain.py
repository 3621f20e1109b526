"""langchain-openai as its users write it: an answer, a stream, a form, a tool. Prints what came as JSON."""

from __future__ import annotations

import json
import sys
from typing import Literal

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


class Person(BaseModel):
    """Somebody."""

    name: str = Field(max_length=8)
    old: bool


@tool
def get_weather(city: Literal["Bern", "Rome"]) -> str:
    """Weather of a city."""
    return f"rain in {city}"


def main(base: str, model: str) -> None:
    """Ask the server at `base`."""
    server = {"model": model, "base_url": f"{base}/v1", "api_key": "none", "temperature": 0, "max_retries": 0}
    chat, long = ChatOpenAI(**server, max_tokens=24), ChatOpenAI(**server, max_tokens=160)
    answer = chat.invoke("Say hi.")
    streamed = "".join(str(piece.content) for piece in chat.stream("Say hi."))
    forms = {way: long.with_structured_output(Person, method=way) for way in ("json_schema", "function_calling")}
    found = {method: form.invoke("Who is it?").model_dump() for method, form in forms.items()}
    called = long.bind_tools([get_weather], tool_choice="get_weather").invoke("Weather in Bern?")
    print(
        json.dumps(
            {
                "answer": answer.content,
                "tokens": answer.usage_metadata["output_tokens"],
                "streamed": streamed,
                "forms": found,
                "called": [[call["name"], sorted(call["args"])] for call in called.tool_calls],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
