// Lines over the last ten minutes. One sample a second while the page is open, one in five of the time before.

import { el, say, svg } from "./dom.js";
import * as format from "./format.js";

const SPAN_MS = 600_000;
const WIDTH = 400;
const HEIGHT = 104;
const LEFT = 56;
const BOTTOM = 16;
const TOP = 6;

export class Samples {
  constructor() {
    this.all = [];
  }

  add(sample) {
    const last = this.all.at(-1);
    if (last && sample.at_ms <= last.at_ms) {
      if (last.at_ms - sample.at_ms > 60_000) this.all = []; // the server's clock was set back
      else return;
    }
    this.all.push(sample);
    const oldest = sample.at_ms - SPAN_MS;
    while (this.all[0].at_ms < oldest) this.all.shift();
  }
}

// What a total gained a second, between neighbours at least two seconds apart so that it does not flicker.
export function rate(samples, total) {
  const points = [];
  let from = 0;
  for (let at = 1; at < samples.length; at++) {
    while (samples[at].at_ms - samples[from + 1].at_ms >= 5000 && from + 1 < at) from++;
    const passed = (samples[at].at_ms - samples[from].at_ms) / 1000;
    if (passed > 0) points.push([samples[at].at_ms, Math.max(0, total(samples[at]) - total(samples[from])) / passed]);
  }
  return points;
}

export const level = (samples, value) => samples.map((sample) => [sample.at_ms, value(sample)]);

export class Chart {
  constructor({ name, format: print = format.count, limit = null, atLeast = 1, unit = 1 }) {
    this.print = print;
    this.limit = limit;
    this.atLeast = atLeast;
    this.unit = unit;
    this.keys = el("span", { class: "keys-of-chart" });
    this.summary = el("span", { class: "hidden" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.element = el(
      "figure",
      { class: "chart" },
      el("figcaption", {}, el("span", { class: "name" }, name), this.keys, this.summary),
      this.picture,
    );
  }

  // series: [{label, points: [[at_ms, value], …]}, …]
  draw(series, now) {
    const most = Math.max(this.atLeast, this.limit ?? 0, ...series.flatMap((one) => one.points.map((p) => p[1])));
    const top = nice(most / this.unit) * this.unit;
    const x = (at) => LEFT + ((at - now + SPAN_MS) / SPAN_MS) * (WIDTH - LEFT);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - BOTTOM - TOP);
    const parts = [];
    for (const part of [0, 0.5, 1]) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(part * top), y2: y(part * top) }));
      parts.push(svg("text", { x: LEFT - 6, y: y(part * top) + 4, "text-anchor": "end" }, this.print(part * top)));
    }
    parts.push(svg("text", { x: LEFT, y: HEIGHT - 2 }, "−10 min"));
    parts.push(svg("text", { x: WIDTH, y: HEIGHT - 2, "text-anchor": "end" }, "now"));
    if (this.limit !== null && this.limit <= top)
      parts.push(svg("line", { class: "limit", x1: LEFT, x2: WIDTH, y1: y(this.limit), y2: y(this.limit) }));
    series.forEach((one, number) => {
      const d = one.points.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      parts.push(svg("path", { d, class: `s${number % 5}` }));
    });
    this.picture.replaceChildren(...parts);
    this.keys.replaceChildren(
      ...series.map((one, number) =>
        el(
          "span",
          { class: "key" },
          el("span", { class: `swatch s${number % 5}` }),
          `${one.label} ${this.print(one.points.at(-1)?.[1] ?? 0)} `,
        ),
      ),
    );
    say(this.summary, `, most within ten minutes ${this.print(Math.max(0, ...series.flatMap((s) => s.points.map((p) => p[1]))))}`);
  }
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}
