// The runbook's actions. Each says what it will do, asks, acts, and says what came of it.

import { post, token } from "./api.js";
import { by, el, say } from "./dom.js";

const config = (changes) => ({ path: "/admin/config", body: changes });

const ACTIONS = [
  {
    name: "Rollout",
    effect: "Share of agents that may speculate; 0 stops new speculation, what is in flight finishes.",
    choices: ["0", "10", "25", "50", "100"],
    chosen: "100",
    unit: "%",
    request: (value) => config({ "speculation.features.rollout_percentage": Number(value) }),
  },
  {
    name: "Mode",
    effect: "Depth and branches: conservative 3 and 2, balanced 5 and 4, aggressive 10 and 8.",
    choices: ["conservative", "balanced", "aggressive"],
    chosen: "conservative",
    request: (value) => config({ "speculation.mode": value }),
  },
  {
    name: "Max depth",
    effect: "How deep agents may build on what is not confirmed. Wins over the mode’s.",
    number: { value: 2, min: 1, max: 20 },
    request: (value) => config({ "speculation.max_depth": Number(value) }),
  },
  {
    name: "Enable speculation",
    effect: "Clears an operator’s stop too.",
    request: () => config({ "speculation.enabled": true }),
  },
  {
    name: "Drain speculation",
    effect: "New speculation stops; what is in flight has 30 s, the rest is rolled back. Nobody is slashed.",
    grave: true,
    request: () => ({ path: "/admin/emergency", body: { action: "drain_speculation" } }),
  },
  {
    name: "Emergency stop",
    effect: "Stops all speculation and rolls back ALL pending operations now. Stake returns. May disrupt service.",
    grave: true,
    request: () => ({ path: "/admin/emergency", body: { action: "disable_speculation", force: true } }),
  },
  {
    name: "Reset breaker",
    effect: "Closes the circuit breaker and empties its window.",
    request: () => ({ path: "/admin/circuit-breaker/reset" }),
  },
  {
    name: "Clear proof queue",
    effect: "Discards batches, never operations: they are queued again.",
    request: () => ({ path: "/admin/proof/clear-queue" }),
  },
  {
    name: "Time out stale",
    effect: "Rolls back what was admitted longer ago and is not confirmed.",
    number: { value: 300, min: 0, max: 2592000 },
    unit: "s",
    grave: true,
    request: (value) => ({ path: "/admin/operations/timeout-stale", body: { older_than_seconds: Number(value) } }),
  },
  { name: "Collect garbage", effect: "Drops caches and what has ended.", request: () => ({ path: "/admin/gc" }) },
  {
    name: "Recover stuck stake",
    effect: "Releases bonds whose operation can no longer end by itself, for every agent.",
    request: () => ({ path: "/admin/stake/recover-all" }),
  },
  {
    name: "Rebuild state",
    effect: "From the log, or from the chain where the log is damaged: then unconfirmed work is lost and its bonds return.",
    grave: true,
    request: () => ({ path: "/admin/recovery", body: { action: "rebuild_state" } }),
  },
];

export function showActions(done) {
  by("actions").replaceChildren(...ACTIONS.map((action) => row(action, done)));
}

function row(action, done) {
  const input = field(action);
  const start = el(
    "button",
    { type: "button", class: action.grave ? "grave" : "", "aria-label": `${action.name}…`, onclick: () => ask(action, input, done) },
    action.choices || action.number ? "Set…" : "Do…",
  );
  return el(
    "div",
    { class: "action" },
    el("span", { class: "what" }, action.name),
    el("span", { class: "effect" }, action.effect),
    el("span", { class: "do" }, input, start),
  );
}

function field({ name, choices, chosen, number, unit }) {
  const label = unit ? `${name} in ${unit}` : name;
  if (choices)
    return el(
      "select",
      { "aria-label": label },
      ...choices.map((choice) => el("option", { value: choice, selected: choice === chosen }, unit ? `${choice} ${unit}` : choice)),
    );
  return number ? el("input", { type: "number", "aria-label": label, ...number }) : null;
}

async function ask(action, input, done) {
  const value = input?.value;
  if (input && !input.reportValidity()) return;
  const request = action.request(value);
  const dialog = by("confirm");
  say(by("confirm-title"), input ? `${action.name}: ${value}${action.unit ? ` ${action.unit}` : ""}?` : `${action.name}?`);
  say(by("confirm-text"), action.effect);
  say(by("confirm-command"), command(request));
  const yes = by("confirm-yes");
  say(yes, action.name);
  yes.classList.toggle("grave", Boolean(action.grave));
  dialog.returnValue = "no";
  dialog.showModal();
  by("confirm-no").focus();
  dialog.addEventListener("close", () => dialog.returnValue === "yes" && act(action, request, done), { once: true });
}

const command = ({ path, body }) =>
  `curl -X POST ${location.origin}${path} \\\n  -H "Authorization: Bearer $ADMIN_TOKEN"` +
  (body ? ` \\\n  -d '${JSON.stringify(body)}'` : "");

async function act(action, { path, body }, done) {
  const result = by("action-result");
  if (!token.get()) {
    tell(result, "critical", "Actions need the operator’s token: enter it at the top.");
    by("token").focus();
    return;
  }
  tell(result, "", `${action.name}…`);
  try {
    const answer = await post(path, body);
    tell(result, "ok", `${action.name}: done. ${JSON.stringify(answer)}`.slice(0, 400));
    done();
  } catch (error) {
    tell(result, "critical", `${action.name}: ${error.message}`);
  }
}

function tell(element, kind, text) {
  element.className = `result ${kind}`;
  say(element, text);
}
