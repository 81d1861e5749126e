// The server's answers. The token lives in this tab's session and goes nowhere but into the header.

const KEY = "agenc-token";

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = body?.error?.code ?? "";
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

export const get = (path) => call(path, { method: "GET" });

export const post = (path, body) =>
  call(path, { method: "POST", body: JSON.stringify(body ?? {}), headers: { "content-type": "application/json" } });

async function call(path, options) {
  const headers = new Headers(options.headers);
  if (token.get()) headers.set("authorization", `Bearer ${token.get()}`);
  const answer = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(30000) });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(answer.status, body);
  return body;
}
