import { useEffect, useState } from "preact/hooks";
import { json } from "../api";
import { useKeys } from "../keys";
import { useLoaded } from "../loaded";
import { IconButton } from "../parts/button";
import { Switch } from "../parts/switch";
import { Banner } from "../parts/trouble";
import { go } from "../place";
import { texts } from "../texts";
import { Empty } from "../watch/parts";
import { Legend, Tokens } from "../watch/tokens";
import type { Example, Examples, Listed } from "../watch/served";

const { data, runs } = texts;
const PAGE = 10; // examples of a list

export default function Data({ rest: [run, step = "", at = "1"] }: { rest: string[] }) {
  const listed = useLoaded<{ data: Listed[] }>((signal) => json("v1/runs", { signal }), []);
  const found =
    listed.value?.data.filter((one) => one.kind === "run" && !["running", "killed"].includes(one.state)) ??
    [];
  const first = found[0]?.name;
  useEffect(() => {
    if (!run && first) go(["data", first], { replace: true });
  }, [run, first]);
  return (
    <div class="view">
      <header>
        <h1>{data.title}</h1>
        <p>{data.more}</p>
      </header>
      {listed.error !== null && <Banner error={listed.error} again={listed.again} />}
      {listed.value && !found.length && (
        <Empty title={data.none} more={data.noneMore} command={runs.noneCommand} />
      )}
      {run && (
        <Browser
          key={run}
          run={run}
          step={step}
          at={Math.max(0, (Number.parseInt(at, 10) || 1) - 1)}
          names={found.map((one) => one.name)}
        />
      )}
    </div>
  );
}

interface Given {
  run: string;
  step: string;
  at: number;
  names: string[];
}

function Browser({ run, step, at, names }: Given) {
  const [list, asList] = useState(false);
  const [weights, write] = useState(false);
  const count = list ? PAGE : 1;
  const query = new URLSearchParams({ run, step, start: String(at), count: String(count) });
  const { value, error, again } = useLoaded<Examples>(
    (signal) => json(`v1/data?${query}`, { signal }),
    [String(query)],
  );
  const total = value?.total ?? 0;
  const to = (place: number) => {
    if (total && place >= 0 && place < total)
      go(["data", run, value?.step ?? step, String(place + 1)], { replace: true });
  };
  const end = Math.max(0, total - count);
  useKeys([
    { keys: "ArrowRight", says: data.after, does: () => to(at + count) },
    { keys: "ArrowLeft", says: data.before, does: () => to(Math.max(0, at - count)) },
    { keys: "Home", says: data.first, does: () => to(0) },
    { keys: "End", says: data.final, does: () => to(end) },
  ]);
  return (
    <>
      <div class="row choosing">
        <label class="field">
          <span>{data.run}</span>
          <select value={run} onChange={(event) => go(["data", event.currentTarget.value])}>
            {[...new Set([run, ...names])].map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        {value && value.steps.length > 1 && (
          <label class="field">
            <span>{data.step}</span>
            <select value={value.step} onChange={(event) => go(["data", run, event.currentTarget.value])}>
              {value.steps.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        )}
        <div class="segments" role="group" aria-label={data.how}>
          <button type="button" aria-pressed={!list} onClick={() => asList(false)}>
            {data.one}
          </button>
          <button type="button" aria-pressed={list} onClick={() => asList(true)}>
            {data.list}
          </button>
        </div>
        <Switch on={weights} onChange={write} label={data.weights} />
      </div>
      {error !== null && <Banner error={error} again={again} />}
      {!value && error === null && <p class="loading">{texts.frame.loading}</p>}
      {value && (
        <>
          <Pager at={at} count={count} total={total} to={to} />
          {!value.whole && <p class="muted small-text">{data.kept}</p>}
          {value.view && <p class="muted small-text">{data.view(value.view)}</p>}
          <Legend />
          {value.examples.map((one) => (
            <ExampleShown key={one.number} of={one} weights={weights} />
          ))}
        </>
      )}
    </>
  );
}

function Pager({
  at,
  count,
  total,
  to,
}: {
  at: number;
  count: number;
  total: number;
  to: (place: number) => void;
}) {
  return (
    <div class="row pager">
      <IconButton
        icon="left"
        says={data.before}
        look=""
        disabled={at <= 0}
        onClick={() => to(Math.max(0, at - count))}
      />
      <label>
        <span>{data.goTo}</span>
        <input
          type="number"
          min={1}
          max={total}
          value={at + 1}
          onChange={(event) => to(Math.min(total, Math.max(1, event.currentTarget.valueAsNumber || 1)) - 1)}
        />
        <span>{data.of(total)}</span>
      </label>
      <IconButton
        icon="right"
        says={data.after}
        look=""
        disabled={at + count >= total}
        onClick={() => to(at + count)}
      />
      <p class="hidden" role="status">
        {data.at(at + 1, Math.min(total, at + count), total)}
      </p>
    </div>
  );
}

function ExampleShown({ of, weights }: { of: Example; weights: boolean }) {
  const last = of.sequences.at(-1);
  return (
    <article class="card example" aria-labelledby={`example-${of.number}`}>
      <header class="row apart">
        <h2 id={`example-${of.number}`}>{of.id}</h2>
        <span class="row">
          {Object.entries(of.values).map(([name, value]) => (
            <span key={name} class="badge">
              {data.value(name, String(value))}
            </span>
          ))}
        </span>
      </header>
      {of.left.length > 0 && (
        <p class="small-text">
          <b>{data.left}</b> {of.left.join("; ")}
        </p>
      )}
      {of.sequences.map((one) => (
        <section key={`${one.part} ${one.number}`}>
          <p class="muted small-text row apart">
            <b>{data.part(one.part, one.number, one.of)}</b>
            <span class="number">{data.trained(one.trained, one.length)}</span>
          </p>
          <Tokens of={one} written={weights} />
          {one.length > one.texts.length && (
            <p class="muted small-text">{data.moreTokens(one.length - one.texts.length)}</p>
          )}
        </section>
      ))}
      {last && last.of > last.number && (
        <p class="muted small-text">{data.moreSequences(last.number, last.of)}</p>
      )}
    </article>
  );
}
