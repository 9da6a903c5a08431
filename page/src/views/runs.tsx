import { useRef, useState } from "preact/hooks";
import { json } from "../api";
import { useKeys } from "../keys";
import { Banner } from "../parts/trouble";
import { link } from "../place";
import { texts } from "../texts";
import { Ago, Empty, Progress, StateBadge } from "../watch/parts";
import { usePolled } from "../watch/polled";
import type { Listed } from "../watch/served";
import { Run } from "./run";

const { runs, watch } = texts;
const OFTEN = 3000; // milliseconds between two looks while a run is at work
const SELDOM = 15000;
const MANY = 6; // runs from which on they can be searched

export default function Runs({ rest: [name] }: { rest: string[] }) {
  return name ? <Run key={name} name={name} /> : <List />;
}

function List() {
  const { value, error, again } = usePolled<{ data: Listed[] }>(
    (signal) => json("v1/runs", { signal }),
    [],
    (found) => (found.data.some((one) => one.state === "running") ? OFTEN : SELDOM),
  );
  const [wanted, want] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useKeys([{ keys: "/", says: runs.keys.find, does: () => field.current?.focus() }]);
  const every = (value?.data ?? []).filter((one) => one.kind === "run");
  const found = every.filter((one) =>
    `${one.name} ${one.title}`.toLowerCase().includes(wanted.toLowerCase()),
  );
  const groups = [
    { name: runs.working, of: found.filter((one) => one.state === "running") },
    { name: runs.ended, of: found.filter((one) => one.state !== "running") },
  ].filter(({ of }) => of.length);
  return (
    <div class="view">
      <header>
        <h1>{runs.title}</h1>
        <p>{runs.more}</p>
      </header>
      {error !== null && <Banner error={error} again={again} />}
      {!value && error === null && <p class="loading">{texts.frame.loading}</p>}
      {value && !every.length && <Empty title={runs.none} more={runs.noneMore} command={runs.noneCommand} />}
      {every.length > MANY && (
        <label class="search">
          <span class="hidden">{runs.search}</span>
          <input
            ref={field}
            type="search"
            placeholder={runs.search}
            value={wanted}
            onInput={(event) => want(event.currentTarget.value)}
          />
        </label>
      )}
      {every.length > 0 && !found.length && <p class="muted">{runs.nothing}</p>}
      {groups.map((group) => (
        <section key={group.name} class="part" aria-label={group.name}>
          <h2 class={groups.length > 1 ? "" : "hidden"}>{group.name}</h2>
          <ul class="cards">
            {group.of.map((one) => (
              <Row key={one.name} of={one} />
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}

function Row({ of }: { of: Listed }) {
  return (
    <li class="card run-row">
      <div class="row apart">
        <h3>
          <a class="cover" href={link("runs", of.name)}>
            {of.title}
          </a>
        </h3>
        <span class="row">
          {of.tiny && <span class="badge">{runs.tiny}</span>}
          <StateBadge state={of.state} />
        </span>
      </div>
      {of.said && <p class="said">{of.said}</p>}
      <Progress at={of.at} />
      <p class="muted small-text row">
        <code>{of.name}</code>
        <Ago seconds={of.changed} />
        {of.seconds !== null && <span class="number">{watch.took(of.seconds)}</span>}
      </p>
    </li>
  );
}
