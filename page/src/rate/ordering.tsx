import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { IconButton } from "../parts/button";
import { texts } from "../texts";
import { useDrag } from "./drag";
import { moved, place, position, tied, type Places } from "./places";

const { rank } = texts;

/** One of what is put into an order. note: what is said of it beside its label. */
export interface Item {
  id: string;
  label: string;
  note?: ComponentChildren;
  content: ComponentChildren;
}

interface Given {
  items: readonly Item[];
  places: Places;
  onChange: (places: string[][]) => void;
  fixed?: boolean;
}

/** Things in an order that can be changed by dragging, by buttons and by keys, with equal ones in one place.
 * fixed: it cannot be changed any more, or not yet. */
export function Ordering({ items, places, onChange, fixed = false }: Given) {
  const list = useRef<HTMLOListElement>(null);
  const [taken, take] = useState<{ id: string; before: Places } | null>(null);
  const [said, say] = useState("");
  const usage = useId();
  const label = (id: string) => items.find((one) => one.id === id)?.label ?? "";
  const where = (of: Places, id: string) => rank.place(place(of, id), items.length, tied(of, id).map(label));
  const put = (id: string, at: number) => {
    const after = moved(places, id, at);
    onChange(after);
    say(rank.moved(label(id), where(after, id)));
  };
  const drag = useDrag(list, places, put);
  const handle = (id: string) => list.current?.querySelector<HTMLElement>(`[data-handle="${id}"]`);
  // What moves in the page loses the focus.
  useLayoutEffect(() => {
    if (taken) handle(taken.id)?.focus();
  }, [places]);

  const toggle = (id: string) => {
    if (drag.swallows()) return;
    const ends = taken?.id === id;
    take(ends ? null : { id, before: places });
    say((ends ? rank.dropped : rank.taken)(label(id), where(places, id)));
  };
  const back = () => {
    if (!taken) return;
    onChange(taken.before.map((one) => [...one]));
    say(rank.back(label(taken.id), where(taken.before, taken.id)));
    take(null);
  };
  const flat = places.flat();
  const pressed = (id: string, event: KeyboardEvent) => {
    const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    if (event.key === "Escape" && taken) {
      event.preventDefault();
      event.stopPropagation();
      back();
    }
    if (!step) return;
    event.preventDefault();
    if (taken?.id === id) return put(id, position(places, id) + step);
    const next = flat[flat.indexOf(id) + step];
    if (next) handle(next)?.focus();
  };
  return (
    <>
      <ol class={fixed ? "ordering fixed" : "ordering"} ref={list} aria-label={rank.list}>
        {flat.map((id) => {
          const item = items.find((one) => one.id === id)!;
          const equal = tied(places, id);
          const group = places.find((one) => one.includes(id)) ?? [];
          const ends = [id === group[0] ? "opens" : "joins", id === group.at(-1) && "ends"];
          const looks = [
            "place",
            ...(equal.length ? ["equal", ...ends] : []),
            taken?.id === id && "taken",
            drag.looks(id),
          ];
          return (
            <li key={id} class={looks.filter(Boolean).join(" ")} data-item={id} style={drag.shift(id)}>
              <article aria-label={`${item.label}, ${where(places, id)}`}>
                <header class="place-head">
                  {!fixed && (
                    <IconButton
                      icon="grip"
                      says={rank.move(item.label)}
                      look="quiet handle"
                      data-handle={id}
                      aria-pressed={taken?.id === id}
                      aria-describedby={usage}
                      onClick={() => toggle(id)}
                      onKeyDown={(event) => pressed(id, event)}
                      {...drag.on(id)}
                    />
                  )}
                  <span class="place-number number" aria-hidden="true">
                    {place(places, id)}
                  </span>
                  <h3>{item.label}</h3>
                  {item.note}
                  {equal.length > 0 && <span class="badge">{rank.equal}</span>}
                  {!fixed && (
                    <span class="place-steps">
                      <IconButton
                        icon="above"
                        says={rank.up(item.label)}
                        small
                        disabled={position(places, id) === 0}
                        onClick={() => put(id, position(places, id) - 1)}
                      />
                      <IconButton
                        icon="below"
                        says={rank.down(item.label)}
                        small
                        disabled={equal.length === 0 && id === flat.at(-1)}
                        onClick={() => put(id, position(places, id) + 1)}
                      />
                    </span>
                  )}
                </header>
                <div class="place-said">{item.content}</div>
              </article>
            </li>
          );
        })}
      </ol>
      <p class="hidden" id={usage}>
        {rank.usage}
      </p>
      <p class="hidden" role="status">
        {said}
      </p>
    </>
  );
}
