// The page: asks the API again and again, and shows what it says.
// Texts of the daemon reach the document through textContent alone.
"use strict";

const FRAME_MS = 100;
const CELLS_MS = 400;
const TASKS_MS = 1000;
const STALE_MS = 2000;
const EVENTS_KEPT = 200;
const EXAMPLES = [
  "put the red block in the left tray",
  "put the green block in the right tray",
  "put the blue block in the left tray",
  "put the yellow block in the right tray",
];

const byId = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
let cellId = null;
let reachable = false;

function setText(node, text) {
  const value = text === null || text === undefined ? "" : String(text);
  if (node.textContent !== value) node.textContent = value;
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function number(x, digits) {
  return typeof x === "number" ? x.toFixed(digits) : "–";
}

function remembered(key) {
  try { return localStorage.getItem(key) || ""; } catch { return ""; }
}

function remember(key, value) {
  try { localStorage.setItem(key, value); } catch { /* a private window forgets */ }
}

// Gives the document, or throws an error whose message is for a person.
async function ask(path, body) {
  const init = { cache: "no-store", signal: AbortSignal.timeout(6000) };
  if (body !== undefined) {
    init.method = "POST";
    init.headers = { "content-type": "application/json" };
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    const error = new Error("the daemon cannot be reached");
    error.unreachable = true;
    throw error;
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(answer.detail || `the daemon answers ${response.status}`);
    error.problem = answer;
    throw error;
  }
  return answer;
}

async function forever(period, step) {
  for (;;) {
    if (!document.hidden) {
      try { await step(); } catch (error) { console.warn(error); }
    }
    await wait(period);
  }
}

function showResult(id, text, failed) {
  const node = byId(id);
  node.dataset.failed = String(failed);
  setText(node, text);
}

// Keeps one child per key in the given order, so that focus survives an update.
function keyed(parent, items, keyOf, create, update) {
  const old = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    old.delete(key);
    if (!child) {
      child = create(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  for (const child of old.values()) child.remove();
}

// Link, banner

function showLink(state, text, banner) {
  const link = byId("link");
  if (link.dataset.link !== state) link.dataset.link = state;
  setText(link, text);
  const node = byId("banner");
  node.hidden = !banner;
  setText(node, banner || "");
}

function showUnreachable() {
  reachable = false;
  showLink("lost", "unreachable",
    "The daemon cannot be reached: what this page shows is old. Is `vlad` running? "
    + "The robot's hardware e-stop works without it.");
  showMode(null, "no word from the daemon", "start it with `vlad`, or look at its log");
}

// Cell

function showMode(mode, meaning, todo) {
  const node = byId("mode");
  const word = mode || "unknown";
  if (node.dataset.mode !== word) node.dataset.mode = word;
  setText(node, word);
  setText(byId("meaning"), meaning);
  setText(byId("todo"), todo && todo !== "nothing" ? `to do: ${todo}` : "");
}

function showCells(cells) {
  const select = byId("cell-select");
  if (!cells.some((cell) => cell.id === cellId)) cellId = cells.length ? cells[0].id : null;
  keyed(select, cells, (cell) => cell.id, (cell) => {
    const option = make("option", "", cell.id);
    option.value = cell.id;
    return option;
  }, () => {});
  if (select.value !== cellId && cellId) select.value = cellId;
  const cell = cells.find((each) => each.id === cellId);
  if (cell) showCell(cell);
}

function showCell(cell) {
  setText(byId("robot"), `${cell.robot}${cell.simulated ? ", simulated" : ""}`);
  const reason = cell.reason || {};
  showMode(cell.mode, reason.meaning || "waiting for the guard", reason.what_to_do);
  keyed(byId("not-ready"), cell.not_ready, (why) => why, (why) => make("li", "", why), () => {});
  setText(byId("policy"), cell.policy ? cell.policy.name : "none yet");
  setText(byId("policy-note"), cell.policy ? cell.policy.note : "");
  setText(byId("strategy"), cell.strategy);
  setText(byId("current"), cell.task || "none");
  setText(byId("ticks"), `${number(cell.ticks_per_s, 1)} per second at ${number(100 * cell.speed_limit, 0)} % speed, now ${cell.tick}`);
  showRoles(cell.roles);
  showStreams(cell.streams);
  showCameras(cell.cameras);
}

function showRoles(roles) {
  keyed(byId("roles"), roles, (role) => role.role, (role) => {
    const row = make("li");
    row.append(make("span", "who", role.role), make("span", "why"));
    return row;
  }, (row, role) => {
    row.firstChild.dataset.fit = String(role.alive && role.fit);
    const why = role.alive ? (role.fit ? `${number(role.age_ms, 0)} ms` : role.unfit_reason) : "silent";
    setText(row.lastChild, why);
  });
}

function showStreams(streams) {
  keyed(byId("streams"), streams, (stream) => stream.key, (stream) => {
    const row = make("tr");
    row.append(make("td", "", stream.key), make("td"), make("td"));
    return row;
  }, (row, stream) => {
    setText(row.children[1], number(stream.rate_hz, 1));
    setText(row.children[2], number(stream.age_ms, 0));
  });
}

// Cameras

function showCameras(cameras) {
  keyed(byId("cameras"), cameras, (camera) => camera.frame, (camera) => {
    const figure = make("figure");
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `what camera ${camera.view} sees`);
    const caption = make("figcaption");
    caption.append(make("span", "", camera.view), make("span", "rate"));
    figure.append(canvas, caption);
    figure.dataset.stale = "true";
    followCamera(figure, canvas, camera);
    return figure;
  }, () => {});
}

async function followCamera(figure, canvas, camera) {
  const drawing = canvas.getContext("2d");
  canvas.width = camera.width;
  canvas.height = camera.height;
  canvas.style.aspectRatio = `${camera.width} / ${camera.height}`;
  let shown = null;
  let changed = -Infinity;
  await wait(0);
  while (figure.isConnected) {
    const began = performance.now();
    if (!document.hidden) {
      try {
        const response = await fetch(camera.frame, { signal: AbortSignal.timeout(3000) });
        if (!response.ok) throw new Error(`no frame: ${response.status}`);
        const seq = response.headers.get("vlad-frame-seq");
        const image = await createImageBitmap(await response.blob());
        drawing.drawImage(image, 0, 0, canvas.width, canvas.height);
        image.close();
        if (seq !== shown) changed = performance.now();
        shown = seq;
      } catch { /* the caption says that the picture is old */ }
    }
    const stale = STALE_MS < performance.now() - changed;
    figure.dataset.stale = String(stale);
    setText(figure.lastChild.lastChild, stale ? "no new picture" : `frame ${shown}`);
    await wait(Math.max(20, FRAME_MS - (performance.now() - began)));
  }
}

// Tasks

function showTasks(tasks) {
  byId("no-tasks").hidden = 0 < tasks.length;
  keyed(byId("tasks"), tasks, (task) => task.id, (task) => {
    const row = make("li");
    const meta = make("div", "meta");
    meta.append(make("span", "time"), make("span", "why"));
    row.append(make("span", "what", task.instruction), make("span", "state"), meta);
    return row;
  }, updateTask);
}

function updateTask(row, task) {
  const [, state, meta] = row.children;
  const [time, why] = meta.children;
  setText(state, task.state);
  const submitted = new Date(task.submitted_at_ms).toLocaleTimeString();
  const span = task.started_at_ms && task.ended_at_ms
    ? `, ran ${((task.ended_at_ms - task.started_at_ms) / 1000).toFixed(1)} s` : "";
  const attempt = 0 < task.attempt ? `, try ${task.attempt}` : "";
  setText(time, `${submitted}${attempt}${span}`);
  setText(why, task.reason || "");
  if (state.dataset.state === task.state) return;
  state.dataset.state = task.state;
  meta.querySelectorAll("button").forEach((button) => button.remove());
  for (const [label, act] of actionsOf(task)) {
    const button = make("button", "", label);
    button.type = "button";
    button.setAttribute("aria-label", `${label}: ${task.instruction}`);
    button.addEventListener("click", () => run(button, act));
    meta.append(button);
  }
}

function actionsOf(task) {
  const path = `/v1/tasks/${task.id}`;
  const cancel = ["cancel", () => ask(`${path}/cancel`, { operator: operatorOr("page"), reason: "cancelled on the page" })];
  if (["queued", "leased", "running", "pausing", "paused"].includes(task.state)) return [cancel];
  if (task.state !== "interrupted") return [];
  const judge = (result) => [result, () => {
    const by = signature();
    if (!by) throw new Error("enter your name and the reason beside Reset and Rearm first");
    return ask(`${path}/verdict`, { result, ...by });
  }];
  return [judge("succeeded"), judge("failed"), judge("requeue"), cancel];
}

async function run(button, act) {
  button.disabled = true;
  try {
    await act();
    showResult("task-result", "", false);
    await refreshTasks();
  } catch (error) {
    showResult("task-result", error.message, true);
  }
  button.disabled = false;
}

async function refreshTasks() {
  if (!reachable) return;
  showTasks((await ask("/v1/tasks?limit=12")).items);
}

// Commands

function operatorOr(other) {
  return byId("operator").value.trim() || other;
}

function signature() {
  const operator = byId("operator").value.trim();
  const reason = byId("order-reason").value.trim();
  if (operator && reason) return { operator, reason };
  byId(operator ? "order-reason" : "operator").focus();
  return null;
}

async function stopNow() {
  const failed = (why) => {
    showResult("order-result", `E-STOP IS NOT CONFIRMED: ${why}. Use the hardware e-stop.`, true);
  };
  if (!cellId) return failed("the page knows no cell yet");
  showResult("order-result", "stopping", false);
  const body = { operator: "page", reason: "e-stop button" };
  for (let left = 3; 0 < left; left -= 1) {
    try {
      const answer = await ask(`/v1/cells/${cellId}/estop`, body);
      showResult("order-result", `${answer.text}: the cell is ${answer.mode}`, false);
      return undefined;
    } catch (error) {
      failed(error.message);
    }
  }
  return undefined;
}

async function command(event) {
  event.preventDefault();
  const by = signature();
  const verb = event.submitter ? event.submitter.value : "";
  if (!by || !cellId || !verb) return;
  remember("vlad-operator", by.operator);
  try {
    const body = verb === "speed" ? { rate: Number(byId("speed").value), by } : by;
    const answer = await ask(`/v1/cells/${cellId}/${verb}`, body);
    showResult("order-result", `${verb}: the cell is ${answer.mode}`, false);
    byId("order-reason").value = "";
  } catch (error) {
    showResult("order-result", error.message, true);
  }
}

async function submitTask(event) {
  event.preventDefault();
  const instruction = byId("instruction").value.trim();
  if (!instruction || !cellId) return;
  const button = byId("submit");
  button.disabled = true;
  try {
    const task = await ask("/v1/tasks", { cell: cellId, instruction });
    showResult("task-result", `taken as ${task.id}`, false);
    byId("instruction").value = "";
    await refreshTasks();
  } catch (error) {
    showResult("task-result", error.message, true);
  }
  button.disabled = false;
}

// Events

function showEvent(kind, event) {
  byId("no-events").hidden = true;
  const list = byId("events");
  const row = make("li");
  row.dataset.severity = event.severity || "warn";
  const at = event.at_ms ? new Date(event.at_ms) : new Date();
  const text = kind === "lagged" ? `${event.missed} events were missed here` : event.text;
  row.append(make("time", "", at.toLocaleTimeString()), make("span", "", `${event.role || "page"}: ${text}`));
  if (event.advice && event.advice !== "nothing") row.append(make("span", "advice", event.advice));
  list.prepend(row);
  while (EVENTS_KEPT < list.children.length) list.lastElementChild.remove();
}

// The kinds are open-ended, which EventSource cannot listen to: the stream is read by hand.
async function followEvents() {
  for (;;) {
    try {
      const response = await fetch("/v1/events", { cache: "no-store" });
      if (!response.ok) throw new Error(`no events: ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach(readBlock);
      }
    } catch { /* the banner says whether the daemon is there */ }
    await wait(2000);
  }
}

function readBlock(block) {
  const fields = new Map();
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (0 < colon) fields.set(line.slice(0, colon), line.slice(colon + 1).trimStart());
  }
  if (!fields.has("data")) return;
  try { showEvent(fields.get("event") || "", JSON.parse(fields.get("data"))); } catch { /* not ours */ }
}

// Beginning

async function refreshCells() {
  try {
    const cells = (await ask("/v1/cells")).items;
    reachable = true;
    showCells(cells);
  } catch (error) {
    if (error.unreachable) showUnreachable();
    throw error;
  }
}

async function refreshReadiness() {
  try {
    await ask("/readyz");
    showLink("ready", "ready", "");
  } catch (error) {
    if (error.unreachable) return showUnreachable();
    const missing = error.problem && error.problem.missing;
    const why = missing && missing.length ? missing.join("; ") : error.message;
    showLink("waiting", "not ready", `Not ready for tasks: ${why}`);
  }
  return undefined;
}

function start() {
  byId("operator").value = remembered("vlad-operator");
  for (const example of EXAMPLES) {
    const button = make("button", "", example);
    button.type = "button";
    button.addEventListener("click", () => {
      byId("instruction").value = example;
      byId("instruction").focus();
    });
    byId("examples").append(button);
  }
  byId("cell-select").addEventListener("change", (event) => { cellId = event.target.value; });
  byId("estop").addEventListener("click", stopNow);
  byId("order-form").addEventListener("submit", command);
  byId("task-form").addEventListener("submit", submitTask);
  forever(CELLS_MS, refreshCells);
  forever(TASKS_MS, refreshReadiness);
  forever(TASKS_MS, refreshTasks);
  followEvents();
}

start();
