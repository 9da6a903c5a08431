import type { RefObject } from "preact";
import { useRef, useState } from "preact/hooks";
import { without, type Places } from "./places";

const BEGINS = 4; // pixels after which a press is a drag
const EDGE = 56; // pixels from the edge of what scrolls within which it does
const FAST = 14; // pixels that it scrolls at a time
const INTO = 0.3; // the share of a place at its top and bottom that leads beside and not into it

interface Drag {
  id: string;
  from: number;
  by: number;
  at: number;
}

/** Dragging what stands in a list by a handle, with a mouse, a pen or a finger. `put` is told of the position
 * (see places.ts) where it was let go of. */
export function useDrag(
  list: RefObject<HTMLElement | null>,
  places: Places,
  put: (id: string, at: number) => void,
) {
  const [now, show] = useState<Drag | null>(null);
  const pressed = useRef<{ id: string; from: number; scrolled: number } | null>(null);
  const dragged = useRef(false);
  const scroller = () => list.current?.closest<HTMLElement>(".turns, main");

  const move = (event: PointerEvent) => {
    const { current: start } = pressed;
    if (!start || (!dragged.current && Math.abs(event.clientY - start.from) < BEGINS)) return;
    dragged.current = true;
    scrolled(scroller(), event.clientY);
    const by = event.clientY - start.from + (scroller()?.scrollTop ?? 0) - start.scrolled;
    show({
      id: start.id,
      from: start.from,
      by,
      at: target(list.current, without(places, start.id), event.clientY),
    });
  };
  const end = (event: PointerEvent) => {
    pressed.current = null;
    show(null);
    if (now && event.type === "pointerup") put(now.id, now.at);
  };
  const on = (id: string) => ({
    onPointerDown: (event: PointerEvent) => {
      if (event.button) return;
      (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
      dragged.current = false;
      pressed.current = { id, from: event.clientY, scrolled: scroller()?.scrollTop ?? 0 };
    },
    onPointerMove: move,
    onPointerUp: end,
    onPointerCancel: end,
  });
  /** Whether a click is the end of a drag. */
  const swallows = () => {
    const was = dragged.current;
    dragged.current = false;
    return was;
  };
  const looks = (id: string): string => {
    if (!now) return "";
    return now.id === id ? "dragged" : mark(without(places, now.id), now.at, id);
  };
  const shift = (id: string) => (now?.id === id ? { transform: `translateY(${now.by}px)` } : {});
  return { on, swallows, looks, shift };
}

/** How one that stands there shows where the dragged one would go. */
function mark(others: string[][], at: number, id: string): string {
  const place = Math.floor(at / 2);
  if (at % 2) return others[place]?.includes(id) ? "into" : "";
  if (others[place]?.[0] === id) return "before";
  return place === others.length && others.at(-1)?.at(-1) === id ? "behind" : "";
}

function target(list: HTMLElement | null, others: string[][], y: number): number {
  for (const [number, ids] of others.entries()) {
    const found = ids.map((id) => list?.querySelector(`[data-item="${id}"]`)?.getBoundingClientRect());
    const top = Math.min(...found.map((one) => one?.top ?? 0));
    const bottom = Math.max(...found.map((one) => one?.bottom ?? 0));
    if (y < top + INTO * (bottom - top)) return 2 * number;
    if (y <= bottom - INTO * (bottom - top)) return 2 * number + 1;
  }
  return 2 * others.length;
}

function scrolled(scroller: HTMLElement | null | undefined, y: number): void {
  if (!scroller) return;
  const { top, bottom } = scroller.getBoundingClientRect();
  if (y < top + EDGE) scroller.scrollBy(0, -FAST);
  if (y > bottom - EDGE) scroller.scrollBy(0, FAST);
}
