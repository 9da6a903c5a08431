import { json } from "../api";
import type { Person } from "../chat/served";
import { remember, remembered, session, Shared } from "../shared";

/** What the server asks of annotators. */
export type Kind = "review" | "reply_as_assistant" | "reply_as_prompter" | "rank";

export interface Plain {
  id: string;
  role: "user" | "assistant";
  content: string;
}

export interface Task {
  kind: Kind;
  message: string;
  conversation: Plain[];
  replies: Plain[];
}

/** Who annotates, as long as the tab is open. Empty: nobody has said so. */
export const user = new Shared(remembered("annotator", session()) ?? "");

export function called(name: string): void {
  user.value = name.trim();
  remember("annotator", user.value || null, session());
}

const named = (who: string): string => `user=${encodeURIComponent(who)}`;

export const next = async (who: string, signal: AbortSignal): Promise<Task | null> =>
  (await json<{ task: Task | null }>(`v1/task?${named(who)}`, { signal })).task;

export const review = (who: string, message: string, score: number): Promise<unknown> =>
  json(`v1/messages/${message}/review`, { method: "POST", body: { user: who, score } });

export const reply = (who: string, message: string, text: string): Promise<unknown> =>
  json(`v1/messages/${message}/replies`, { method: "POST", body: { user: who, text } });

export const rank = (who: string, message: string, order: string[][]): Promise<unknown> =>
  json(`v1/messages/${message}/ranking`, { method: "PUT", body: { user: who, order, blind: true } });

export const plant = (who: string, text: string, language: string): Promise<unknown> =>
  json("v1/trees", { method: "POST", body: { user: who, text, language: language || null } });

export const person = (who: string, signal: AbortSignal): Promise<Person> =>
  json(`v1/people/me?${named(who)}`, { signal });

export const consent = (who: string, consent: boolean): Promise<unknown> =>
  json("v1/people/me/consent", { method: "PUT", body: { user: who, consent } });
