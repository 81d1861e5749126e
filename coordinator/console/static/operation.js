// One operation: where it stands, what it waits for, why it was or was not speculated on, and its timeline.

import { get } from "./api.js";
import { by, el } from "./dom.js";
import * as format from "./format.js";

let shown = null;

export async function showOperation(id) {
  shown = id;
  by("find").value = id;
  const holder = by("operation");
  try {
    const path = `/admin/operation/${encodeURIComponent(id)}`;
    const [detail, { timeline }] = await Promise.all([get(path), get(`${path}/timeline`)]);
    if (shown === id) holder.replaceChildren(...view(detail, timeline));
  } catch (error) {
    if (shown === id) holder.replaceChildren(el("p", { class: "result critical" }, error.message));
  }
}

export const refreshOperation = () => (shown === null ? undefined : showOperation(shown));

function view(detail, timeline) {
  const operation = detail.operation;
  return [
    el("h3", {}, operation.operation_id, " ", el("span", { class: operation.state }, format.words(operation.state))),
    el("p", { class: "why" }, status(detail)),
    pairs([
      ["agent", operation.agent_id],
      ["task", `${operation.task_id} (${operation.operation_type})`],
      ["parents", operation.depends_on.join(", ") || "none"],
      ["children", detail.children.join(", ") || "none"],
      ["depth at admission", String(operation.depth)],
      ["batch", operation.batch_id ?? "none"],
      ["stake", `${operation.speculation.stake_lamports.toLocaleString("en")} lamports`],
    ]),
    el("div", {}, el("h4", {}, "Speculation"), ...decision(operation, detail.decision)),
    el("div", {}, el("h4", {}, "Timeline"), el("ol", { class: "timeline" }, ...timeline.map(entry))),
  ];
}

function status({ failure, end_cause, pending_rollback, blocked_by, operation }) {
  if (operation.state === "CONFIRMED") return `confirmed by transaction ${operation.reason}`;
  if (failure) return `failed: ${format.words(failure)}`;
  if (pending_rollback) return `will be rolled back once its transaction is dead: ${format.words(pending_rollback)}`;
  if (blocked_by) return blocked_by.detail;
  return end_cause ? `${operation.reason}, begun by ${end_cause}` : operation.reason;
}

function decision(operation, numbers) {
  if (numbers === null || (!operation.speculation.granted && numbers.denial === null)) return [el("p", { class: "why" }, "Nothing was to decide: no parent was unconfirmed.")];
  const verdict = operation.speculation.granted ? "Granted" : `Denied: ${format.words(numbers.denial ?? "")}`;
  return [
    el("p", { class: "why" }, `${verdict}, decided by the rule “${format.words(numbers.rule)}”.`),
    pairs([
      ["all ancestors confirm with", format.share(numbers.probability)],
      ["expected gain", format.seconds(numbers.expected_gain_ms / 1000)],
      ["expected loss", format.seconds(numbers.expected_loss_ms / 1000)],
      ["deepest allowed", String(numbers.max_depth)],
      ["branches", `${numbers.branches} of ${numbers.max_branches}`],
    ]),
  ];
}

function entry({ state, reason, duration_ms }) {
  const took = duration_ms === null ? "now" : format.seconds(duration_ms / 1000);
  return el(
    "li",
    {},
    el("span", { class: "took" }, took),
    el("i", { class: state }),
    el("span", {}, format.words(state), " ", el("span", { class: "reason" }, reason)),
  );
}

const pairs = (rows) =>
  el("dl", { class: "pairs" }, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
