// The page: asks once a second while it is seen, and shows.

import { showActions } from "./actions.js";
import { get, token } from "./api.js";
import { Chart, level, rate, Samples } from "./charts.js";
import { by, el, say, svg } from "./dom.js";
import * as format from "./format.js";
import { Graph } from "./graph.js";
import { refreshOperation, showOperation } from "./operation.js";

const EVERY_MS = 1000;
const GRAPH_EVERY = 2;
const AUDIT_EVERY = 10;
const WORDS = { ok: "within bounds", warning: "warning", critical: "critical" };

const samples = new Samples();
const graph = new Graph(showOperation);
let turn = 0;
let wantsHistory = true;

const total = (sample) => Object.values(sample.rollbacks_total).reduce((a, b) => a + b, 0);

const CHARTS = [
  [new Chart({ name: "Confirmed a second" }), (all) => [{ label: "", points: rate(all, (s) => s.confirmed_total) }]],
  [
    new Chart({ name: "In the queue" }),
    (all) => [
      { label: "queued", points: level(all, (s) => s.queued) },
      { label: "open", points: level(all, (s) => s.open) },
    ],
  ],
  [new Chart({ name: "Confirmation p99", format: format.seconds }), (all) => [{ label: "", points: level(all, (s) => s.latency_p99_s) }]],
  [new Chart({ name: "Rollbacks a minute by reason" }), rollbacks],
  [
    new Chart({ name: "Depth and commitments" }),
    (all) => [
      { label: "depth", points: level(all, (s) => s.depth) },
      { label: "commitments", points: level(all, (s) => s.pending) },
    ],
  ],
  [new Chart({ name: "Stake locked, lamports" }), (all) => [{ label: "", points: level(all, (s) => s.locked_lamports) }]],
  [new Chart({ name: "Memory", format: format.bytes, atLeast: 2 ** 28, unit: 2 ** 20 }), (all) => [{ label: "", points: level(all, (s) => s.memory_bytes) }]],
  [
    new Chart({ name: "Workers" }),
    (all) => [
      { label: "up", points: level(all, (s) => s.workers_running) },
      { label: "busy", points: level(all, (s) => s.workers_busy * s.workers_running) },
    ],
  ],
];

function rollbacks(all) {
  const reasons = Object.keys(all.at(-1)?.rollbacks_total ?? {}).slice(0, 5);
  if (!reasons.length) return [{ label: "none", points: level(all, () => 0) }];
  return reasons.map((reason) => ({
    label: format.words(reason),
    points: rate(all, (s) => s.rollbacks_total[reason] ?? 0).map(([at, value]) => [at, 60 * value]),
  }));
}

function showVerdict(now) {
  const worst = now.figures.reduce((a, f) => Math.max(a, ["ok", "warning", "critical"].indexOf(f.level)), 0);
  const bad = now.status !== "healthy" || now.score === 0 || worst === 2;
  const kind = bad ? "critical" : worst === 1 || now.score < 0.5 ? "warning" : "ok";
  const weakest = Object.entries(now.parts).sort((a, b) => a[1] - b[1])[0];
  const verdict = by("verdict");
  verdict.className = `verdict ${kind}`;
  const why = kind === "ok" ? "" : now.score < 1 ? `: ${format.words(weakest[0])}` : "";
  say(verdict, `${now.status === "healthy" ? (kind === "ok" ? "healthy" : kind) : "unhealthy"}${why}`);
  document.title = `${kind === "ok" ? "" : `${kind} – `}agenc-prover`;
  const banner = by("banner");
  const trouble = now.read_only ?? (now.breaker === "open" ? `circuit breaker open: ${now.breaker_reason}` : null);
  banner.hidden = trouble === null;
  say(banner, trouble ?? "");
}

function showFacts(now) {
  const facts = [
    ["speculation", now.latch ? `${now.speculation} (${format.words(now.latch)})` : now.speculation, now.latch ? "warning" : ""],
    ["mode", `${now.mode}, depth ${now.max_depth}`, ""],
    ["rollout", `${now.rollout_percentage} %`, ""],
    ["breaker", format.words(now.breaker), now.breaker === "closed" ? "" : "critical"],
    ["chain", `${now.connection}, slot ${now.slot}`, now.connection === "connected" ? "" : "critical"],
    ["proofs", now.generator, now.generator === "mock" ? "warning" : ""],
    ["profile", `${now.env}, ${now.version}`, ""],
  ];
  by("facts").replaceChildren(
    ...facts.map(([name, value, kind]) => el("div", {}, el("dt", {}, name), el("dd", { class: kind }, value))),
  );
}

function showFigures(now) {
  by("figure-list").replaceChildren(
    ...now.figures.map((figure) => {
      const print = figure.unit === "share" ? format.share : format.seconds;
      const full = figure.unit === "share" ? Math.max(1, figure.value) : Math.max(1.5 * (figure.critical ?? figure.warning), figure.value);
      const marks = [figure.warning, figure.critical].filter((mark) => mark !== null);
      const at = (value) => `${Math.min(100, (100 * value) / full)}%`;
      const word = figure.level === "ok" ? WORDS.ok : `${WORDS[figure.level]}: ${figure.action.toLowerCase()}`;
      return el(
        "li",
        { class: `figure ${figure.level}` },
        el("span", { class: "label" }, figure.label),
        el("span", { class: "value" }, print(figure.value)),
        svg(
          "svg",
          { "aria-hidden": "true" },
          svg("rect", { class: "track", width: "100%", height: 6, y: 1, rx: 3 }),
          svg("rect", { class: "fill", width: at(figure.value), height: 6, y: 1, rx: 3 }),
          ...marks.map((mark) => svg("line", { class: "mark", x1: at(mark), x2: at(mark), y1: -1, y2: 9 })),
        ),
        el("span", { class: "word" }, word),
        el("span", { class: "hidden" }, `warning above ${print(figure.warning)}${figure.critical === null ? "" : `, critical above ${print(figure.critical)}`}`),
      );
    }),
  );
}

function showWorkers(now) {
  const limited = now.workers_limited_by ? `, limited by ${now.workers_limited_by}` : "";
  say(by("workers-note"), `${now.sample.workers_running} up of ${now.workers_desired} desired${limited}`);
  by("workers").tBodies[0].replaceChildren(
    ...now.workers.map((worker) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, worker.worker_id),
        el("td", {}, worker.backend ? `${worker.state}, ${worker.backend}` : worker.state),
        el("td", {}, worker.batch_id ?? "–"),
        el("td", { class: "number" }, format.share(worker.utilization)),
        el("td", { class: "number" }, format.count(worker.batches)),
        el("td", { class: "number" }, format.count(worker.failures)),
      ),
    ),
  );
}

async function showAudit() {
  const acts = await get("/admin/audit?limit=8");
  const text = (value) => JSON.stringify(value) ?? "";
  by("audit").tBodies[0].replaceChildren(
    ...(acts.length ? acts : [null]).map((act) =>
      act === null
        ? el("tr", {}, el("td", { colspan: 5 }, "nothing yet"))
        : el(
            "tr",
            {},
            el("td", {}, format.clock(act.at)),
            el("td", {}, act.by),
            el("td", {}, act.action),
            el("td", { class: "code" }, text(act.before)),
            el("td", { class: "code" }, text(act.after)),
          ),
    ),
  );
}

async function refresh() {
  const now = await get(wantsHistory ? "/admin/console?history=true" : "/admin/console");
  if (wantsHistory) now.history.forEach((sample) => samples.add(sample));
  wantsHistory = false;
  samples.add(now.sample);
  showVerdict(now);
  showFacts(now);
  showFigures(now);
  showWorkers(now);
  for (const [chart, series] of CHARTS) chart.draw(series(samples.all), now.sample.at_ms);
  if (turn % GRAPH_EVERY === 0) {
    graph.draw(await get("/admin/graph"));
    await refreshOperation();
  }
  if (turn % AUDIT_EVERY === 0) await showAudit();
  turn += 1;
}

// One request after the other: a slow server is not asked faster than it answers.
async function live() {
  try {
    if (!document.hidden) await refresh();
  } catch (error) {
    const verdict = by("verdict");
    verdict.className = "verdict critical";
    say(verdict, error.status === 401 ? "reads need the operator’s token" : "no answer from the coordinator");
    wantsHistory = true;
  }
  setTimeout(live, EVERY_MS);
}

by("charts").replaceChildren(...CHARTS.map(([chart]) => chart.element));
showActions(() => {
  turn = 0;
});
by("token").value = token.get();
by("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(by("token").value.trim());
  turn = 0;
  say(by("action-result"), token.get() ? "The token is used in this tab until it is closed." : "The token is forgotten.");
});
by("find-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = by("find").value.trim();
  if (id) showOperation(id);
});
live();
