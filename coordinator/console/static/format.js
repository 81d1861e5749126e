// Numbers as an operator reads them.

export const share = (value) => `${(100 * value).toFixed(value < 0.1 && value > 0 ? 1 : 0)} %`;

export function seconds(value) {
  if (value < 1) return `${Math.round(1000 * value)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

export function count(value) {
  if (value >= 1e9) return `${short(value / 1e9)} G`;
  if (value >= 1e6) return `${short(value / 1e6)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)} k`;
  return Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 1 : 0);
}

const short = (value) => (Number.isInteger(value) || value >= 100 ? value.toFixed(0) : value.toFixed(1));

export const bytes = (value) =>
  value >= 2 ** 30 ? `${short(value / 2 ** 30)} GiB` : `${Math.round(value / 2 ** 20)} MiB`;

export const clock = (text) => new Date(text).toLocaleTimeString([], { hour12: false });

export const words = (name) => name.toLowerCase().replaceAll("_", " ");
