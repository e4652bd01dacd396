"use strict";
// What comes from jobs reaches the page as text only: by textContent, never as markup.

const STATUS = ["scheduled", "enqueued", "running", "succeeded", "failed", "retrying", "dead", "cancelled", "lost",
  "unknown"];
const FILTERS = ["trace_id", "id", "queue", "type", "correlation_id", "status", "slow"];
const ROWS = 200;
const $ = (id) => document.getElementById(id);
const form = $("filters");
const body = $("jobs").tBodies[0];
const rows = new Map();
let stream = null;
let paused = false;
let chosen = null;
let opener = null;
let asked = 0;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (className) made.className = className;
  return made;
}

function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(2)} s`;
  return `${Math.floor(ms / 60000)} m ${Math.round(ms / 1000) % 60} s`;
}

const time = (at) => (at ? new Date(at).toLocaleTimeString([], { hour12: false }) : "");

function safeLink(text) {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : "";
  } catch {
    return "";
  }
}

// ---- the URL holds filters and what is open

const here = () => new URLSearchParams(location.search);

function wanted() {
  const query = new URLSearchParams();
  for (const name of FILTERS) {
    const value = here().get(name);
    if (value) query.set(name, value);
  }
  return query;
}

function go(changes, replace) {
  const query = here();
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value); else query.delete(name);
  }
  const text = query.toString();
  history[replace ? "replaceState" : "pushState"](null, "", text ? `?${text}` : location.pathname);
}

async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail || said.title || answer.status);
  return said;
}

function complain(error) {
  $("problem").hidden = !error;
  $("problem").textContent = error ? error.message : "";
}

// ---- jobs

const keyOf = (job) => [job.framework, job.queue, job.id, job.enqueued_at].join("\n");

function show(job) {
  const key = keyOf(job);
  let row = rows.get(key);
  if (!row) {
    row = element("tr");
    row.tabIndex = -1;
    rows.set(key, row);
  }
  row.job = job;
  const cells = [[job.status, job.status], [job.queue], [job.id, "mono"], [job.type], [job.attempt],
    [duration(job.wait_ms)], [duration(job.process_ms)], [time(job.heard_at)], [job.trace_id, "mono"]];
  row.replaceChildren(...cells.map(([text, className]) => element("td", text, className)));
  if (job.status === "unknown") row.cells[0].title = "its end was not seen";
  return row;
}

function trim() {
  while (body.rows.length > ROWS) {
    rows.delete(keyOf(body.lastElementChild.job));
    body.lastElementChild.remove();
  }
  $("none").hidden = body.rows.length > 0;
}

async function load() {
  const mine = ++asked;
  try {
    const query = wanted();
    query.set("limit", ROWS);
    const page = await ask(`api/jobs?${query}`);
    if (mine !== asked) return;
    rows.clear();
    body.replaceChildren(...page.jobs.map(show));
    trim();
    complain(null);
  } catch (error) {
    if (mine === asked) complain(error);
  }
}

function listen() {
  if (stream) stream.close();
  stream = new EventSource(`api/events?${wanted()}`);
  stream.onopen = () => { state(paused ? "paused" : "live"); load(); };
  stream.onerror = () => state("away");
  stream.addEventListener("job", (event) => {
    if (paused) return;
    const row = show(JSON.parse(event.data));
    const focused = document.activeElement === row;
    body.prepend(row);
    if (focused) row.focus();
    trim();
  });
}

function state(word) {
  $("state").className = word;
  $("state").textContent = word === "away" ? "redspan does not answer" : word;
}

// ---- queues

async function queues() {
  try {
    const said = await ask("api/queues");
    const focus = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.queue : "";
    $("queues").replaceChildren(...said.queues.map((one) => {
      const tile = element("button", undefined, "tile");
      tile.type = "button";
      tile.dataset.queue = one.queue;
      tile.setAttribute("aria-pressed", String(here().get("queue") === one.queue));
      const depth = one.depth === null ? "" : `${one.depth} waiting, `;
      const wait = one.wait_ms ? `wait ${duration(one.wait_ms.p50)}, p95 ${duration(one.wait_ms.p95)}` : "";
      tile.append(element("b", one.queue || "(no name)"), element("span", `${one.framework}: ${depth}${one.in_flight} running`),
        element("span", `${one.per_second.enqueued.toFixed(2)} in/s, ${one.per_second.failed.toFixed(2)} failed/s`),
        element("span", wait));
      tile.onclick = () => filter({ queue: here().get("queue") === one.queue ? "" : one.queue });
      return tile;
    }));
    for (const tile of $("queues").children) if (focus && tile.dataset.queue === focus) tile.focus();
  } catch { /* the stream says whether redspan answers */ }
}

// ---- a trace

async function open(traceId, jobId) {
  try {
    const trace = await ask(`api/traces/${encodeURIComponent(traceId)}`);
    $("detail").hidden = false;
    $("detail").querySelector("h2").textContent = jobId ? `Job ${jobId}` : `Trace ${traceId}`;
    facts(trace);
    waterfall(trace);
    $("close").focus();
  } catch (error) {
    complain(error);
    go({ trace: "", job: "" }, true);
  }
}

function facts(trace) {
  const line = element("div");
  line.append(element("span", `trace ${trace.trace_id}`, "mono"),
    ` · ${trace.jobs.length} job${trace.jobs.length === 1 ? "" : "s"} · ${duration(trace.duration_ms)}`);
  const link = trace.trace_url ? safeLink(trace.trace_url) : "";
  if (link) {
    const anchor = element("a", "open in tracing backend");
    anchor.href = link;
    anchor.rel = "noopener noreferrer";
    anchor.target = "_blank";
    line.append(" · ", anchor);
  }
  $("facts").replaceChildren(line);
}

function waterfall(trace) {
  const flat = [];
  const walk = (span, depth) => {
    flat.push([span, depth]);
    span.children.forEach((child) => walk(child, depth + 1));
  };
  trace.spans.forEach((span) => walk(span, 0));
  const start = Math.min(...flat.map(([span]) => span.start_us));
  const whole = Math.max(1, Math.max(...flat.map(([span]) => span.start_us + span.duration_us)) - start);
  $("attributes").replaceChildren();
  $("waterfall").replaceChildren(...flat.map(([span, depth]) => {
    const row = element("button", undefined, "span");
    row.type = "button";
    const name = element("span", span.name, "name");
    name.style.paddingLeft = `${depth}rem`;
    name.append(element("small", [span.attributes["queue.name"], span.job_id, span.error].filter(Boolean).join(" · ")));
    const track = element("span", undefined, "track");
    const bar = element("span", undefined, `bar ${span.operation.split(".")[1]}${span.error ? " error" : ""}`);
    bar.dataset.spanId = span.span_id;
    bar.style.left = `${100 * (span.start_us - start) / whole}%`;
    bar.style.width = `${100 * span.duration_us / whole}%`;
    track.append(bar);
    row.append(name, track, element("span", duration(span.duration_us / 1000), "took"));
    row.onclick = () => attributes(span);
    return row;
  }));
}

function attributes(span) {
  const all = { span_id: span.span_id, parent_id: span.parent_id, start: span.start, kind: span.kind, ...span.attributes };
  for (const link of span.links) all[`link: ${link.relation}`] = `${link.trace_id} ${link.span_id}`;
  const parts = Object.entries(all).filter(([, value]) => value !== "");
  $("attributes").replaceChildren(...parts.flatMap(([name, value]) => [element("dt", name), element("dd", value, "mono")]));
}

function close() {
  $("detail").hidden = true;
  if (opener && opener.isConnected) opener.focus();
}

// ---- what people do

function choose(row) {
  if (!row) return;
  if (chosen) chosen.removeAttribute("aria-selected");
  chosen = row;
  row.setAttribute("aria-selected", "true");
  row.focus();
}

function visit(row) {
  opener = row;
  if (row.job.trace_id) {
    go({ trace: row.job.trace_id, job: row.job.id });
    open(row.job.trace_id, row.job.id);
  }
}

function filter(changes) {
  go(changes);
  follow();
}

function follow() {
  for (const name of FILTERS) form.elements[name].value = here().get(name) || "";
  load();
  listen();
  queues();
  if (here().get("trace")) open(here().get("trace"), here().get("job")); else close();
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  try { localStorage.setItem("redspan-theme", document.documentElement.dataset.theme); } catch { /* it is not kept */ }
}

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  state(paused ? "paused" : "live");
  if (!paused) load();
}

function back() {
  if ($("detail").hidden) return;
  go({ trace: "", job: "" });
  close();
}

body.onclick = (event) => {
  const row = event.target.closest("tr");
  if (row && !String(getSelection())) { choose(row); visit(row); }
};
$("pause").onclick = pause;
$("theme").onclick = theme;
$("close").onclick = back;
form.onsubmit = (event) => event.preventDefault();
form.onchange = () => filter(Object.fromEntries(FILTERS.map((name) => [name, form.elements[name].value.trim()])));
form.onreset = (event) => {
  event.preventDefault();
  filter(Object.fromEntries(FILTERS.map((name) => [name, ""])));
};
onpopstate = follow;
onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT)$/.test(document.activeElement.tagName);
  if (event.key === "Escape") {
    if (typing) document.activeElement.blur(); else back();
  } else if (typing) {
    if (event.key === "Enter") document.activeElement.blur();
  } else if (event.key === "/") {
    event.preventDefault();
    form.elements.trace_id.focus();
  } else if (event.key === "j") {
    choose(chosen && chosen.isConnected ? chosen.nextElementSibling : body.rows[0]);
  } else if (event.key === "k") {
    choose(chosen && chosen.isConnected ? chosen.previousElementSibling : body.rows[0]);
  } else if (event.key === "Enter" && chosen && document.activeElement === chosen) {
    visit(chosen);
  } else if (event.key === "p") {
    pause();
  } else if (event.key === "d") {
    theme();
  }
};

try {
  const kept = localStorage.getItem("redspan-theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
} catch { /* nothing is kept here */ }
form.elements.status.append(...STATUS.map((word) => {
  const option = element("option", word);
  option.value = word;
  return option;
}));
follow();
setInterval(queues, 2000);
