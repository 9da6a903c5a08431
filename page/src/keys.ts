import { useEffect, useRef } from "preact/hooks";
import { remember, remembered, Shared } from "./shared";

/** A key or two in turn ("g c"), what they do in words, and how. */
export interface Key {
  keys: string;
  says: string;
  does: () => void;
}

/** Those that hold now, as the list under `?` shows them. */
export const held = new Shared<readonly Key[]>([]);
/** Who speaks to their machine, or whose hand slips, can switch single keys off. */
export const single = new Shared(remembered("keys") !== "off");
const PAUSE = 1000; // milliseconds between two keys that belong together

let before = { key: "", at: 0 };

export function allowSingle(allowed: boolean): void {
  single.value = allowed;
  remember("keys", allowed ? null : "off");
}

/** Let these keys hold while the part that calls this is shown. */
export function useKeys(given: readonly Key[]): void {
  const newest = useRef(given);
  newest.current = given;
  const told = given.map((one) => `${one.keys} ${one.says}`).join("\n");
  useEffect(() => {
    const mine = newest.current.map((one, at) => ({ ...one, does: () => newest.current[at]?.does() }));
    held.value = [...held.value, ...mine];
    return () => void (held.value = held.value.filter((one) => !mine.includes(one)));
  }, [told]);
}

function pressed(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!single.value && event.key.length === 1) return;
  const target = event.target as HTMLElement | null;
  if (target?.closest("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]"))
    return;
  if (event.key.startsWith("Arrow") && target?.closest("pre, .table")) return; // they move what is in there
  if (document.querySelector("dialog[open]")) return;
  const late = event.timeStamp - before.at > PAUSE;
  const both = late ? event.key : `${before.key} ${event.key}`.trim();
  before = { key: event.key, at: event.timeStamp };
  const meant = held.value.findLast((one) => one.keys === both || one.keys === event.key);
  if (!meant) return;
  before = { key: "", at: 0 };
  event.preventDefault();
  meant.does();
}

document.addEventListener("keydown", pressed);
