// The page: asks /tag for each column, shows the answers, sends marked lines to /save. What was said is put into the page as text, never as HTML.

const SERVED = "";
const NONE = "none";
const dialogue = document.getElementById("dialogue");
const labels = document.getElementById("labels");
const columns = document.getElementById("columns");
const status = document.getElementById("status");
let asked = null; // the texts that the columns below answer; the form may have been edited since

function make(name, text, className = "") {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = className;
  return element;
}

function say(text, failed = false) {
  status.textContent = text;
  status.className = failed ? "failed" : "";
}

async function fetched(path, body) {
  const answer = body === undefined
    ? await fetch(path)
    : await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const content = await answer.json();
  if (!answer.ok) {
    throw new Error(content.error);
  }
  return content;
}

function texts() {
  const fields = Object.fromEntries(["user_last_message", "pika_response"].map((name) => [name, dialogue.elements[name].value]));
  const before = dialogue.elements.pika_last_message.value;
  return before === "" ? fields : { pika_last_message: before, ...fields };
}

function scoreRow(name, score, className, threshold) {
  const row = make("tr", "", className);
  const cell = make("td", "");
  const bar = make("div", "", "bar");
  const filled = make("i", "");
  filled.style.width = `${100 * score}%`;
  bar.append(filled);
  if (threshold !== undefined) {
    const mark = make("b", "");
    mark.style.left = `${100 * threshold}%`;
    mark.title = `yes from ${threshold} on`;
    bar.append(mark);
  }
  cell.append(bar);
  row.append(make("th", name), cell, make("td", `${(100 * score).toFixed(1)} %`));
  return row;
}

function tokenSpans(tokens) {
  return tokens.map((token) => {
    const span = make("span", token.spelling ?? "?", token.is_marker ? "marker" : "");
    span.title = `id ${token.id}`;
    return span;
  });
}

function show(name, found) {
  const article = document.getElementById("column").content.cloneNode(true).firstElementChild;
  const part = (selector) => article.querySelector(selector);
  part("h2").textContent = name === SERVED ? "as the server is set" : name;
  part(".remark").textContent = found.remark;
  part(".emotion").textContent = found.emotion_name;
  part(".celebrate").textContent = `celebrate: ${found.celebrate}`;
  part(".latency").textContent = `${found.latency_ms.toFixed(1)} ms${name === SERVED ? "" : ", the engine alone"}`;
  part("tbody").append(
    ...Object.entries(found.emotion_scores).map(([label, score]) => scoreRow(label, score, label === found.emotion_name ? "chosen" : "")),
    scoreRow("celebrate", found.celebrate_score, "flag", found.threshold),
  );
  const [turn, prefix] = article.querySelectorAll("summary");
  turn.textContent = `turn: ${found.turn.length} tokens`;
  prefix.textContent = `prefix: ${found.prefix.length} tokens in ${found.prefix_blocks} KV-cache blocks`;
  part(".turn").append(...tokenSpans(found.turn));
  part(".prefix").append(...tokenSpans(found.prefix));
  part("pre").textContent = found.text;
  part(".right").addEventListener("click", () => save([found.emotion_name], found.celebrate));
  part(".wrong").addEventListener("click", () => label(found));
  return article;
}

async function ask() {
  const sent = texts();
  const names = ["prompt-0", "prompt-1"].map((id) => document.getElementById(id).value).filter((name) => name !== NONE);
  const button = document.getElementById("ask");
  button.disabled = true;
  labels.hidden = true;
  columns.replaceChildren();
  say("asking");
  const failures = [];
  for (const name of names) {
    try {
      columns.append(show(name, await fetched("/tag", { ...sent, prompt: name, strategy: dialogue.elements.strategy.value })));
    } catch (error) {
      failures.push(name === SERVED ? error.message : `${name}: ${error.message}`);
    }
  }
  asked = sent;
  button.disabled = false;
  say(failures.join("; "), failures.length > 0);
}

function label(found) {
  labels.elements.emotion.value = found.emotion_name;
  labels.elements.celebrate.value = found.celebrate;
  labels.querySelectorAll("input").forEach((box) => { box.checked = false; });
  labels.hidden = false;
  labels.elements.emotion.focus();
}

async function save(emotion, celebrate) {
  try {
    const { lines } = await fetched("/save", { ...asked, emotion, celebrate });
    labels.hidden = true;
    say(`saved; ${lines} labelled ${lines === 1 ? "line" : "lines"} in the file`);
  } catch (error) {
    say(error.message, true);
  }
}

function offer(select, options) {
  select.replaceChildren(...options.map(([value, text]) => {
    const option = make("option", text);
    option.value = value;
    return option;
  }));
}

dialogue.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
dialogue.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) {
    event.preventDefault();
    dialogue.requestSubmit();
  }
});
labels.addEventListener("submit", (event) => {
  event.preventDefault();
  const also = [...labels.querySelectorAll("input:checked")].map((box) => box.value);
  save([...new Set([labels.elements.emotion.value, ...also])], labels.elements.celebrate.value);
});

try {
  const setup = await fetched("/setup");
  offer(dialogue.elements.strategy, setup.strategies.map((name) => [name, name]));
  const prompts = [[SERVED, "as the server is set"], ...setup.prompts.map((name) => [name, name])];
  offer(document.getElementById("prompt-0"), prompts);
  offer(document.getElementById("prompt-1"), [[NONE, "nothing"], ...prompts]);
  offer(labels.elements.emotion, setup.labels.map((name) => [name, name]));
  labels.querySelector("fieldset").append(...setup.labels.map((name) => {
    const box = make("input", "");
    box.type = "checkbox";
    box.value = name;
    const wrapped = make("label", "");
    wrapped.append(box, ` ${name}`);
    return wrapped;
  }));
  say(`marked lines go to ${setup.saved_to}`);
} catch (error) {
  say(error.message, true);
}
