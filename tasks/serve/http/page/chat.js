"use strict";
// A chat with the model that this server has, by the same API that every client uses. Texts are set as text, never as HTML.

const at = (id) => document.getElementById(id);
const KEPT = ["system", "temperature", "top_p", "max_tokens", "seed"];
let said = []; // the conversation so far
let asking = null; // stops the request under way
let model = "";

const headers = () => ({
  "content-type": "application/json",
  ...(at("key").value ? { authorization: `Bearer ${at("key").value}` } : {}),
});

function show(role, text) {
  const one = document.createElement("article");
  one.className = role;
  one.textContent = text;
  at("talk").append(one);
  one.scrollIntoView({ block: "end" });
  return one;
}

async function describe() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (!answer.ok) {
    at("figures").textContent = answer.status === 401 ? "This server wants an API key; set it on the right." : `The server answers ${answer.status}.`;
    return;
  }
  const [one] = (await answer.json()).data;
  model = one.id;
  at("name").textContent = one.id;
  at("version").textContent = `version ${one.version}`;
  document.title = one.id;
  at("card").replaceChildren();
  for (const [name, value] of Object.entries(one.card ?? {})) {
    const [term, told] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    told.textContent = value;
    at("card").append(term, told);
  }
  at("figures").textContent = "";
}

function request() {
  const number = (id) => (at(id).value === "" ? undefined : Number(at(id).value));
  const system = at("system").value.trim();
  return {
    model,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...said],
    temperature: number("temperature"),
    top_p: number("top_p"),
    max_tokens: number("max_tokens"),
    seed: number("seed"),
    stream: true,
    stream_options: { include_usage: true },
  };
}

// The events of a stream, each the JSON after "data: "; an event may come in several pieces.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (kept + value).split("\n\n");
    kept = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

async function ask(words) {
  const mine = said; // another conversation may be begun meanwhile
  mine.push({ role: "user", content: words });
  show("user", words);
  const place = show("assistant", "…");
  asking = new AbortController();
  busy(true);
  const began = performance.now();
  let [text, first, usage, finish] = ["", 0, null, ""];
  try {
    const answer = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(request()), signal: asking.signal });
    if (!answer.ok) throw new Error((await answer.json()).error?.message ?? `status ${answer.status}`);
    for await (const event of events(answer.body)) {
      if (event.error) throw new Error(event.error.message);
      const piece = event.choices?.[0]?.delta?.content ?? "";
      if (piece) {
        first ||= performance.now() - began;
        text += piece;
        place.textContent = text;
        place.scrollIntoView({ block: "end" });
      }
      finish = event.choices?.[0]?.finish_reason ?? finish;
      usage = event.usage ?? usage;
    }
  } catch (problem) {
    if (problem.name !== "AbortError") show("error", problem.message);
    else finish = "stopped";
  }
  if (text) mine.push({ role: "assistant", content: text });
  else { mine.pop(); place.remove(); at("words").value ||= words; }
  const seconds = (performance.now() - began) / 1000;
  const made = usage ? `${usage.prompt_tokens} tokens read, ${usage.completion_tokens} written` : "";
  at("figures").textContent = text ? [made, `first after ${(first / 1000).toFixed(2)} s, whole ${seconds.toFixed(1)} s`, finish].filter(Boolean).join(" · ") : "";
  asking = null;
  busy(false);
}

function busy(now) {
  at("send").hidden = now;
  at("stop").hidden = !now;
  at("words").focus();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = at("words").value.trim();
  if (!words || asking) return;
  at("words").value = "";
  ask(words);
});
at("words").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("stop").addEventListener("click", () => asking?.abort());
at("clear").addEventListener("click", () => {
  asking?.abort();
  said = [];
  at("talk").replaceChildren();
  at("figures").textContent = "";
});
at("key").addEventListener("change", describe);
for (const id of KEPT) {
  at(id).value = localStorage.getItem(`edgewright.${id}`) ?? at(id).value;
  at(id).addEventListener("change", () => localStorage.setItem(`edgewright.${id}`, at(id).value));
}
describe();
