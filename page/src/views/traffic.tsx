import { useState } from "preact/hooks";
import { json, Trouble } from "../api";
import { useLoaded } from "../loaded";
import { Icon } from "../parts/icon";
import { Banner } from "../parts/trouble";
import { texts } from "../texts";
import { Bars, type Series } from "../watch/bars";
import { Empty, Part, Table } from "../watch/parts";
import type { Mean, Traffic as Told, Window } from "../watch/served";

const { traffic, watch } = texts;
const MOST = 60; // windows that are drawn

const ratio = (name: string, of: (window: Window) => Mean | null): Series => ({
  name,
  of,
  said: watch.percent,
  least: 0.05,
});
const SERIES: Series[] = [
  {
    name: traffic.charts.turns,
    of: (one) => ({ value: one.turns, low: null, high: null }),
    said: watch.count,
    least: 1,
  },
  { name: traffic.charts.length, of: (one) => one.length, said: (value) => value.toFixed(1), least: 1 },
  ratio(traffic.charts.refusals, (one) => one.refusals),
  ratio(traffic.charts.cut, (one) => one.cut),
  { name: traffic.charts.ratings, of: (one) => one.ratings, said: (value) => value.toFixed(2), least: 5 },
];

export default function Traffic() {
  const [hours, span] = useState("24");
  const [model, take] = useState("");
  const models = useLoaded((signal) => json<{ data: { id: string }[] }>("v1/models", { signal }), []);
  const query = new URLSearchParams({ hours, ...(model && { model }) });
  const { value, error, again } = useLoaded<Told>(
    (signal) => json(`v1/monitor?${query}`, { signal }),
    [hours, model],
  );
  const nothing = error instanceof Trouble && error.status === 400;
  return (
    <div class="view">
      <header>
        <h1>{traffic.title}</h1>
        <p>{traffic.more}</p>
      </header>
      <div class="row apart">
        <div class="segments" role="group" aria-label={traffic.window}>
          {Object.entries(traffic.windows).map(([value, name]) => (
            <button key={value} type="button" aria-pressed={hours === value} onClick={() => span(value)}>
              {name}
            </button>
          ))}
        </div>
        <label class="row chosen">
          <span class="muted small-text">{traffic.model}</span>
          <select value={model} onChange={(event) => take(event.currentTarget.value)}>
            <option value="">{traffic.every}</option>
            {models.value?.data.map((one) => (
              <option key={one.id} value={one.id}>
                {one.id}
              </option>
            ))}
          </select>
        </label>
      </div>
      {error !== null && !nothing && <Banner error={error} again={again} />}
      {!value && error === null && <p class="loading">{texts.frame.loading}</p>}
      {nothing && <Empty title={traffic.none} more={traffic.noneMore} />}
      {value && !nothing && <Shown of={value} />}
    </div>
  );
}

function Shown({ of }: { of: Told }) {
  const windows = of.windows.slice(-MOST);
  return (
    <>
      <Alarms of={of} />
      <Part id="windows" title={watch.times(of.turns, "turn")} more={traffic.bars}>
        {of.windows.length > MOST && (
          <p class="muted small-text">{traffic.newest(MOST, of.windows.length)}</p>
        )}
        <div class="multiples">
          {SERIES.map((series) => (
            <Bars key={series.name} series={series} windows={windows} />
          ))}
        </div>
        <details>
          <summary>{traffic.table}</summary>
          <Numbers of={[...windows].reverse()} />
        </details>
      </Part>
      {of.drift && (
        <Part id="drift" title={traffic.drift}>
          <p>{traffic.drifted(of.drift.divergence.toFixed(3), of.drift.threshold.toFixed(3))}</p>
          {of.drift.words.length > 0 && (
            <p class="row">
              <span class="muted">{traffic.words}</span>
              {of.drift.words.map((word) => (
                <span key={word} class="badge">
                  {word}
                </span>
              ))}
            </p>
          )}
        </Part>
      )}
    </>
  );
}

function Alarms({ of }: { of: Told }) {
  if (!of.alarms.length)
    return (
      <p class="note-good row">
        <Icon name="check" />
        {of.reference ? traffic.quiet : traffic.first}
      </p>
    );
  return (
    <section class="banner calm alarms" aria-labelledby="alarms">
      <Icon name="alert" />
      <div>
        <h2 id="alarms">{of.retrain ? traffic.retrain : traffic.alarms}</h2>
        <ul>
          {of.alarms.map((one) => (
            <li key={one}>{one}</li>
          ))}
        </ul>
      </div>
    </section>
  );
}

function Numbers({ of }: { of: Window[] }) {
  return (
    <Table label={traffic.table}>
      <thead>
        <tr>
          <th scope="col">{traffic.start}</th>
          {SERIES.map((series) => (
            <th key={series.name} scope="col" class="number">
              {series.name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {of.map((window) => (
          <tr key={window.end}>
            <th scope="row">{watch.moment(window.start)}</th>
            {SERIES.map((series) => {
              const mean = series.of(window);
              return (
                <td key={series.name} class="number">
                  {mean ? series.said(mean.value) : watch.none}
                  {mean && mean.low !== null && mean.high !== null && (
                    <span class="about">{watch.between(series.said(mean.low), series.said(mean.high))}</span>
                  )}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </Table>
  );
}
