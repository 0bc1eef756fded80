// Keeps the page fresh. The server renders it; this takes the page again every two seconds and changes what differs, so
// that text has one source, a selection and the focus stay, and nothing is ever parsed into running code here.
"use strict";

const REFRESH_MS = 2000;
const HISTORY_MS = 5000;
const ANSWER_LIMIT_MS = 10000;
const FIGURES = {
  rate: [["events_per_second", "events", "/s", 1]],
  "in-flight": [
    ["in_flight", "in flight", "", 1],
    ["limit", "limit", "", 1],
    ["maximum", "maximum", "", 1],
  ],
  latency: [
    ["p50_seconds", "p50", " ms", 1000],
    ["p99_seconds", "p99", " ms", 1000],
  ],
  lag: [["lag", "lag", "", 1]],
};

// --- refreshing ---------------------------------------------------------------------------------------------------

const kindOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? `${node.tagName}#${node.id}` : node.nodeType);

/** Makes `old` equal to `fresh`, touching only what differs; elements with data-keep belong to this script. */
function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE || old.hasAttribute("data-keep")) return;
  for (const { name: attribute, value } of fresh.attributes) {
    if (old.getAttribute(attribute) !== value) old.setAttribute(attribute, value);
  }
  for (const { name: attribute } of [...old.attributes]) {
    if (!fresh.hasAttribute(attribute)) old.removeAttribute(attribute);
  }
  const wanted = [...fresh.childNodes];
  for (let place = 0; place < wanted.length; place += 1) {
    const present = old.childNodes[place];
    if (present === undefined) old.append(document.adoptNode(wanted[place]));
    else if (kindOf(present) === kindOf(wanted[place])) morph(present, wanted[place]);
    else present.replaceWith(document.adoptNode(wanted[place]));
  }
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

let answeredAt = new Date();

function showConnection(problem) {
  const shown = document.getElementById("connection");
  shown.className = problem ? "lost" : "";
  const since = answeredAt.toISOString().slice(11, 19);
  shown.textContent = problem ? `No answer since ${since} UTC (${problem}): what you see is old.` : "";
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer;
}

async function refresh() {
  try {
    const fresh = new DOMParser().parseFromString(await (await get("/")).text(), "text/html");
    morph(document.getElementById("live"), document.adoptNode(fresh.getElementById("live")));
    document.title = fresh.title;
    answeredAt = new Date();
    showConnection("");
    offerTopics();
  } catch (problem) {
    showConnection(problem.name === "TimeoutError" ? "it is too slow" : problem.message);
  }
}

/** Repeats `work` while the page is looked at, the next time only after the last one has ended. */
function repeat(work, pauseMs) {
  const turn = async () => {
    if (!document.hidden) await work();
    setTimeout(turn, pauseMs);
  };
  setTimeout(turn, pauseMs);
}

// --- reading a chart ----------------------------------------------------------------------------------------------

let past = null;

async function refreshHistory() {
  try {
    past = await (await get("/dashboard/history")).json();
  } catch {
    past = null; // the connection's line says so already
  }
}

function nearest(share) {
  const end = past.time[past.time.length - 1];
  const at = end - (1 - share) * past.span_seconds;
  let best = 0;
  past.time.forEach((time, place) => {
    if (Math.abs(time - at) < Math.abs(past.time[best] - at)) best = place;
  });
  return best;
}

function describe(key, place) {
  const time = new Date(past.time[place] * 1000).toISOString().slice(11, 19);
  const figures = FIGURES[key].map(([field, label, unit, factor]) => {
    const value = past[field][place];
    if (value === null) return `${label} –`;
    const digits = value * factor < 10 ? 1 : 0;
    return `${label} ${(value * factor).toLocaleString("en-US", { maximumFractionDigits: digits })}${unit}`;
  });
  return `${time}  ${figures.join(", ")}`;
}

function point(chart, share) {
  if (past === null || past.time.length === 0) return;
  const place = nearest(share);
  const readout = chart.querySelector(".readout");
  readout.textContent = describe(chart.dataset.chart, place);
  readout.classList.toggle("right", share < 0.5);
  readout.hidden = false;
  const box = chart.querySelector("svg[role]").viewBox.baseVal;
  const age = past.time[past.time.length - 1] - past.time[place];
  chart.querySelector(".cursor").setAttribute("d", `M${box.width * (1 - age / past.span_seconds)} 0V${box.height}`);
}

function unpoint(chart) {
  chart.querySelector(".readout").hidden = true;
  chart.querySelector(".cursor").setAttribute("d", "");
}

function watchCharts() {
  const live = document.getElementById("live");
  const chartOf = (event) => event.target.closest?.(".chart") ?? null;
  live.addEventListener("pointermove", (event) => {
    const chart = chartOf(event);
    if (chart === null || event.target.closest(".area") === null) return;
    const box = chart.querySelector(".area").getBoundingClientRect();
    point(chart, Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  });
  live.addEventListener("pointerout", (event) => {
    const chart = chartOf(event);
    if (chart !== null && !chart.contains(event.relatedTarget)) unpoint(chart);
  });
}

// --- administration -----------------------------------------------------------------------------------------------

function offerTopics() {
  const known = document.getElementById("known-topics");
  const select = document.getElementById("topic");
  if (known === null || select === null) return;
  const topics = [...new Set([...known.children].map((item) => item.textContent))];
  if (topics.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...topics.map((topic) => new Option(topic, topic, false, topic === chosen)));
}

function say(text, bad) {
  const answer = document.getElementById("admin-answer");
  answer.className = bad ? "bad" : "";
  answer.textContent = text;
}

async function act(path, body) {
  const token = document.getElementById("token").value;
  if (token === "") {
    say("Enter the token first.", true);
    document.getElementById("token").focus();
    return;
  }
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
    });
    const said = await answer.json();
    if (answer.ok) say(`Done: ${said.topic ?? said.what.replaceAll("_", " ")}: ${said.old} → ${said.new}`, false);
    else say(`Refused (${answer.status}): ${said.error}`, true);
  } catch (problem) {
    say(`Not done: ${problem.message}`, true);
  }
  await refresh();
}

function submit(event) {
  event.preventDefault();
  const form = event.target;
  if (form.dataset.action === "topic") {
    act(`/admin/${event.submitter?.value || "pause"}`, { topic: form.elements.topic.value });
  } else if (form.dataset.action === "max-in-flight") {
    act("/admin/max-in-flight", { maximum: form.elements.maximum.valueAsNumber });
  } else if (form.dataset.action === "log-level") {
    act("/admin/log-level", { level: form.elements.level.value });
  }
}

function start() {
  const forms = document.getElementById("admin-forms");
  if (forms !== null) {
    forms.hidden = false;
    forms.addEventListener("submit", submit);
    offerTopics();
  }
  watchCharts();
  refreshHistory();
  repeat(refresh, REFRESH_MS);
  repeat(refreshHistory, HISTORY_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
}

start();
