import { texts } from "../texts";
import type { Window } from "./served";

const { watch } = texts;

/** A quantity over windows. of: null where a window has none of it. */
export interface Series {
  name: string;
  of: (window: Window) => { value: number; low: number | null; high: number | null } | null;
  said: (value: number) => string;
  least: number;
}

/** Bars over windows, the newest on the right and in the accent, with intervals as lines. */
export function Bars({ series, windows }: { series: Series; windows: Window[] }) {
  const found = windows.map((window) => ({ window, mean: series.of(window) }));
  const top = Math.max(...found.map(({ mean }) => Math.max(mean?.value ?? 0, mean?.high ?? 0)), series.least);
  const part = (value: number) => `${Math.min(100, Math.max(0, (100 * value) / top))}%`;
  const newest = found.findLast(({ mean }) => mean)?.mean;
  return (
    <figure class="card chart">
      <figcaption>
        <b>{series.name}</b>
        <span class="muted number">{newest ? series.said(newest.value) : watch.none}</span>
      </figcaption>
      <div class="bars" aria-hidden="true">
        {found.map(({ window, mean }) => (
          <span
            key={window.end}
            class="column"
            title={`${watch.moment(window.start)}: ${mean ? series.said(mean.value) : watch.none}`}
          >
            {mean && <span class="fill" style={{ "--at": part(mean.value) }} />}
            {mean && mean.low !== null && mean.high !== null && (
              <span class="reach" style={{ "--from": part(mean.low), "--to": part(mean.high) }} />
            )}
          </span>
        ))}
      </div>
    </figure>
  );
}
