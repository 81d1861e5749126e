// The pending operations in layers: an operation stands right of all its parents.

import { by, el, say, svg } from "./dom.js";
import { words } from "./format.js";

const STEP_X = 64;
const STEP_Y = 22;
const MARGIN = 24;
const RADIUS = 6;
const STATES = ["SPECULATING", "DEFERRED", "QUEUED", "PROVING", "PROVED", "AWAITING_ANCESTORS", "SUBMITTING"];

export class Graph {
  constructor(open) {
    this.open = open;
    this.holder = by("graph");
    this.focused = null;
    this.places = new Map();
    by("graph-legend").replaceChildren(
      ...STATES.map((state) => el("li", { class: state }, el("i"), words(state))),
      el("li", {}, "ring: speculative"),
    );
    this.holder.addEventListener("keydown", (event) => this.#key(event));
  }

  draw({ total, nodes }) {
    const counts = {};
    for (const node of nodes) counts[node.state] = (counts[node.state] ?? 0) + 1;
    const list = Object.entries(counts).map(([state, number]) => `${number} ${words(state)}`).join(", ");
    say(by("graph-note"), total === 0 ? "none" : `${total}${nodes.length < total ? `, the first ${nodes.length} shown` : ""}: ${list}`);
    const had = document.activeElement?.closest?.(".node") ? this.focused : null;
    this.#place(nodes);
    this.holder.replaceChildren(this.#picture(nodes));
    if (had && this.places.has(had)) this.#focus(had);
  }

  #place(nodes) {
    const column = new Map();
    const byId = new Map(nodes.map((node) => [node.operation_id, node]));
    const depth = (id) => {
      const open = [id];
      while (open.length) {
        const at = open.at(-1);
        const missing = byId.get(at).parents.filter((parent) => !column.has(parent));
        if (missing.length) open.push(...missing);
        else {
          column.set(at, Math.max(-1, ...byId.get(at).parents.map((parent) => column.get(parent))) + 1);
          open.pop();
        }
      }
    };
    for (const node of nodes) if (!column.has(node.operation_id)) depth(node.operation_id);
    const columns = [];
    for (const node of nodes) (columns[column.get(node.operation_id)] ??= []).push(node);
    this.places = new Map();
    this.columns = columns.map((members, x) => {
      const height = (node) => {
        const rows = node.parents.map((parent) => this.places.get(parent).row);
        return rows.length ? rows.reduce((a, b) => a + b, 0) / rows.length : Infinity;
      };
      if (x > 0) members.sort((a, b) => height(a) - height(b));
      members.forEach((node, row) => this.places.set(node.operation_id, { column: x, row, node }));
      return members.map((node) => node.operation_id);
    });
  }

  #picture(nodes) {
    const width = 2 * MARGIN + Math.max(0, this.columns.length - 1) * STEP_X;
    const height = 2 * MARGIN + Math.max(0, ...this.columns.map((ids) => ids.length - 1)) * STEP_Y;
    const x = (id) => MARGIN + this.places.get(id).column * STEP_X;
    const y = (id) => MARGIN + this.places.get(id).row * STEP_Y;
    const edges = nodes.flatMap((node) =>
      node.parents.map((parent) => {
        const [x1, y1, x2, y2] = [x(parent), y(parent), x(node.operation_id), y(node.operation_id)];
        const bend = (x1 + x2) / 2;
        return svg("path", { class: "edge", d: `M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}` });
      }),
    );
    if (!this.places.has(this.focused)) this.focused = nodes[0]?.operation_id ?? null;
    const dots = nodes.map((node) => {
      const id = node.operation_id;
      return svg(
        "g",
        {
          class: `node ${node.state}${node.speculative ? " speculative" : ""}`,
          role: "button",
          tabindex: id === this.focused ? "0" : "-1",
          "data-id": id,
          "aria-label": `${id}, ${words(node.state)}, depth ${node.depth}, ${node.parents.length} pending parents`,
          onclick: () => this.#choose(id),
        },
        svg("title", {}, `${id} · ${words(node.state)} · depth ${node.depth}`),
        svg("circle", { cx: x(id), cy: y(id), r: RADIUS }),
      );
    });
    return svg(
      "svg",
      { width, height, role: "group", "aria-label": "Graph of the pending operations" },
      ...edges,
      ...dots,
    );
  }

  #choose(id) {
    this.#focus(id);
    this.open(id);
  }

  #focus(id) {
    for (const node of this.holder.querySelectorAll(".node")) {
      const chosen = node.dataset.id === id;
      node.setAttribute("tabindex", chosen ? "0" : "-1");
      if (chosen) node.focus({ preventScroll: false });
    }
    this.focused = id;
  }

  #key(event) {
    const place = this.places.get(this.focused);
    if (!place || !event.target.closest(".node")) return;
    if (event.key === "Enter" || event.key === " ") this.#choose(this.focused);
    else if (event.key.startsWith("Arrow")) this.#focus(this.#neighbour(event.key, place));
    else return;
    event.preventDefault();
  }

  #neighbour(key, { column, row, node }) {
    const at = (x, y) => this.columns[x]?.[Math.max(0, Math.min(y, this.columns[x].length - 1))];
    if (key === "ArrowUp") return at(column, row - 1) ?? node.operation_id;
    if (key === "ArrowDown") return at(column, row + 1) ?? node.operation_id;
    if (key === "ArrowLeft") return node.parents[0] ?? at(column - 1, row) ?? node.operation_id;
    const child = [...this.places.values()].find((place) => place.node.parents.includes(node.operation_id));
    return child?.node.operation_id ?? at(column + 1, row) ?? node.operation_id;
  }
}
