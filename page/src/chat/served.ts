import { json } from "../api";

/** What the server sends of conversations, and what it is sent. */
export type Role = "system" | "user" | "assistant" | "tool" | "text";
export type State = "coming" | "whole" | "cancelled" | "cut";

export interface Token {
  token: string;
  logprob: number;
  top_logprobs: { token: string; logprob: number }[];
}

export interface Choice {
  index: number;
  message_id?: string;
  delta: { content?: string | null; reasoning_content?: string | null; refusal?: string | null };
  logprobs: { content: Token[] | null } | null;
  finish_reason: string | null;
}

export interface Chunk {
  choices: Choice[];
}

export interface Judgement {
  kind: "vote" | "scale" | "label" | "correction" | "comment";
  name?: string;
  value?: number;
  text?: string;
  person?: string;
}

/** Replies to a message in somebody's order, the best first; equal ones stand together. */
export interface Ranking {
  person: string;
  order: string[][];
  blind: boolean;
}

export interface Listed {
  id: string;
  tag: string | null;
  state: string | null;
  since: number;
  opening: string;
}

export interface KeptMessage {
  id: string;
  role: Role;
  content: string;
  reasoning_content?: string;
  tool_calls?: unknown[];
  tool_call_id?: string;
  name?: string;
  model: string | null;
  state: State | null;
  finish: string | null;
  flagged: string | null;
  judgements: Judgement[];
  rankings: Ranking[];
  replies: KeptMessage[];
}

export interface KeptTree {
  id: string;
  tag: string | null;
  tools: unknown[];
  messages: KeptMessage[];
}

export interface Person {
  id: string;
  name: string;
  consent: boolean | null;
}

export const PAGE = 50; // conversations that are listed at once

interface List {
  data: Listed[];
}

/** One's conversations, the newest first; before: only older ones. */
export async function conversations(before: number | null, signal: AbortSignal): Promise<Listed[]> {
  const older = before === null ? "" : `&before=${before}`;
  const { data } = await json<List>(`v1/conversations?mine=true&limit=${PAGE}${older}`, { signal });
  return data;
}

/** All that is kept of a conversation, by its tag or by the id of one tree. An edited first message begins a
 * tree of its own under the same tag. */
export async function trees(id: string, signal?: AbortSignal): Promise<KeptTree[]> {
  const asked = signal ? { signal } : {};
  const of = `v1/conversations?limit=100&mine=true&tag=${encodeURIComponent(id)}`;
  const { data } = await json<List>(of, asked);
  const ids = data.length ? data.map((one) => one.id).reverse() : [id];
  return Promise.all(ids.map((one) => json<KeptTree>(`v1/conversations/${encodeURIComponent(one)}`, asked)));
}

export const judge = (message: string, judgements: Judgement[]): Promise<unknown> =>
  json(`v1/messages/${message}/judgements`, { method: "POST", body: { judgements } });

export const me = (signal?: AbortSignal): Promise<Person> => json("v1/people/me", signal ? { signal } : {});
