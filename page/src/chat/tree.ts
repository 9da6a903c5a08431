import type { Choice, Judgement, KeptMessage, KeptTree, Role, State, Token } from "./served";

/** A message with its replies, of which one is shown. id: in the store; null where it is not known there.
 * broken: whether it is not whole because the server went away. */
export interface Turn {
  key: string;
  id: string | null;
  role: Role;
  content: string;
  thoughts: string;
  more: Record<string, unknown>;
  state: State;
  finish: string | null;
  flagged: boolean;
  broken: boolean;
  model: string | null;
  tokens: Token[];
  judgements: Judgement[];
  parent: Turn | null;
  replies: Turn[];
  chosen: number;
}

let count = 0;

export function turn(role: Role, content: string, more: Partial<Turn> = {}): Turn {
  return {
    key: `turn-${(count += 1)}`,
    id: null,
    role,
    content,
    thoughts: "",
    more: {},
    state: "whole",
    finish: null,
    flagged: false,
    broken: false,
    model: null,
    tokens: [],
    judgements: [],
    parent: null,
    replies: [],
    chosen: 0,
    ...more,
  };
}

/** Put a turn beside the other replies to `parent`, and show it. */
export function add(parent: Turn, child: Turn): Turn {
  child.parent = parent;
  parent.replies.push(child);
  parent.chosen = parent.replies.length - 1;
  return child;
}

export function remove(child: Turn): void {
  const { parent } = child;
  if (!parent) return;
  parent.replies = parent.replies.filter((one) => one !== child);
  parent.chosen = Math.max(0, parent.replies.length - 1);
}

/** Those that are shown: below the root, at each message the chosen reply. */
export function path(root: Turn): Turn[] {
  const found: Turn[] = [];
  for (let at = root.replies[root.chosen]; at; at = at.replies[at.chosen]) found.push(at);
  return found;
}

/** The turn and those that it answers, the first one first. */
export function thread(last: Turn): Turn[] {
  const found: Turn[] = [];
  for (let at: Turn | null = last; at?.parent; at = at.parent) found.unshift(at);
  return found;
}

/** As a request sends it. */
export const said = ({ role, content, more }: Turn): Record<string, unknown> => ({ role, content, ...more });

/** Let a reply grow by a piece that has come of it. */
export function grown(reply: Turn, choice: Choice): void {
  reply.id = choice.message_id ?? reply.id;
  const { content, reasoning_content, refusal } = choice.delta;
  reply.content += content ?? "";
  reply.thoughts += reasoning_content ?? "";
  if (refusal) Object.assign(reply, { content: refusal, flagged: true });
  if (choice.logprobs?.content) reply.tokens = [...reply.tokens, ...choice.logprobs.content];
  reply.finish = choice.finish_reason ?? reply.finish;
}

/** Trees as they are kept, below one root; the newest of several replies is shown. */
export function planted(root: Turn, trees: readonly KeptTree[], person: string | null): void {
  root.replies = [];
  for (const tree of trees) for (const one of tree.messages) grow(root, one, person);
  root.chosen = Math.max(0, root.replies.length - 1);
}

function grow(parent: Turn, kept: KeptMessage, person: string | null): void {
  const made = turn(kept.role, "");
  take(made, kept, person);
  add(parent, made);
  for (const one of kept.replies) grow(made, one, person);
}

/** Let a turn be what is kept of it. */
export function take(made: Turn, kept: KeptMessage, person: string | null): void {
  const { tool_calls, tool_call_id, name } = kept;
  const more = Object.entries({ tool_calls, tool_call_id, name }).filter(([, value]) => value !== undefined);
  Object.assign(made, {
    id: kept.id,
    content: kept.content,
    thoughts: kept.reasoning_content ?? "",
    more: Object.fromEntries(more),
    state: kept.state ?? "whole",
    finish: kept.finish,
    flagged: kept.flagged !== null,
    broken: made.broken || kept.state === "cut",
    model: kept.model,
    judgements: kept.judgements.filter((one) => person === null || one.person === person),
  });
}

/** The message of this id, anywhere in these. */
export function found(messages: readonly KeptMessage[], id: string): KeptMessage | null {
  for (const one of messages) {
    const inside = one.id === id ? one : found(one.replies, id);
    if (inside) return inside;
  }
  return null;
}

/** All turns below one. */
export const all = (of: Turn): Turn[] => of.replies.flatMap((one) => [one, ...all(one)]);
