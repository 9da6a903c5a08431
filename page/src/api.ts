import { lost } from "./away";
import { remember, remembered, session, Shared } from "./shared";
import { texts } from "./texts";

/** Who asks, and what this server offers; GET /v1/page. */
export interface About {
  name: string;
  role: "user" | "annotator" | "admin";
  kept: boolean;
  criteria: string[];
}

/** The code of a trouble that the frame tells of, as long as it lasts. */
export const LOST = "lost";

/** What went wrong, in words. status: of HTTP; 0 where no answer came. */
export class Trouble extends Error {
  constructor(
    message: string,
    readonly status = 0,
    readonly code: string | null = null,
    readonly seconds: number | null = null,
  ) {
    super(message);
  }

  /** Whether the server, or the way to it, is what is away. */
  get away(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** Whether a key is asked for, and why. */
export const asking = new Shared<{ wrong: boolean } | null>(null);
export const about = new Shared<About | null>(null);

let key = remembered("key", session()) ?? "";
let waiting: ((given: boolean) => void)[] = [];

/** Take this key; what waits for one goes on. Null: nobody gives one. */
export function give(given: string | null): void {
  if (given !== null) {
    key = given.trim();
    remember("key", key, session());
  }
  asking.value = null;
  const told = waiting;
  waiting = [];
  for (const go of told) go(given !== null);
}

/** Forget the key, and begin anew. */
export function leave(): void {
  remember("key", null, session());
  window.location.reload();
}

export const hasKey = (): boolean => key !== "";

function given(): Promise<boolean> {
  asking.value = { wrong: key !== "" };
  return new Promise((go) => waiting.push(go));
}

interface Asked {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  body?: unknown;
  signal?: AbortSignal;
}

/** The answer to a request; a key is asked for where one is needed. Throws Trouble. */
export async function ask(path: string, { method = "GET", body, signal }: Asked = {}): Promise<Response> {
  for (;;) {
    const headers: Record<string, string> = {};
    if (key) headers.Authorization = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const sent = body === undefined ? null : JSON.stringify(body);
    const used = key;
    const answer = await reached(() =>
      fetch(url(path), { method, headers, body: sent, signal: signal ?? null }),
    );
    if (answer.ok) return answer;
    const trouble = await read(answer);
    if (answer.status !== 401) throw trouble;
    if (used === key && !(await given())) throw trouble;
  }
}

/** What the server says as JSON. */
export async function json<T>(path: string, asked: Asked = {}): Promise<T> {
  const answer = await ask(path, asked);
  return (await reached(() => answer.json())) as T;
}

/** The address of something on this server. */
export const url = (path: string): string => new URL(path, document.baseURI.split("#")[0]).href;

/** The events of a stream as they come. Throws Trouble where it breaks off before its end. */
export async function* stream<T>(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<T> {
  const answer = await ask(path, { method: "POST", body, signal });
  if (!answer.body) throw new Trouble(texts.trouble.empty, answer.status);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reached(() => reader.read());
    if (done) throw new Trouble(texts.trouble.brokeOff);
    const events = (left + value).split("\n\n");
    left = events.pop() ?? "";
    for (const event of events) {
      const said = event.replace(/^data: ?/, "");
      if (said === "[DONE]") return;
      yield piece<T>(said);
    }
  }
}

function piece<T>(said: string): T {
  const found = JSON.parse(said) as T & { error?: { message: string; code: string | null } };
  if (found.error) throw new Trouble(found.error.message, 502, found.error.code);
  return found;
}

async function reached<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    void lost(url("v1/page"));
    throw new Trouble(texts.trouble.away, 0, LOST);
  }
}

async function read(answer: Response): Promise<Trouble> {
  const seconds = Number(answer.headers.get("Retry-After")) || null;
  try {
    const { error } = (await answer.json()) as { error: { message: string; code: string | null } };
    return new Trouble(error.message, answer.status, error.code, seconds);
  } catch {
    return new Trouble(texts.trouble.status(answer.status), answer.status, null, seconds);
  }
}
