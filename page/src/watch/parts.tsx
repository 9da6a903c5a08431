import type { ComponentChildren } from "preact";
import { texts } from "../texts";
import type { At, State, Verdict } from "./served";

const { runs, watch } = texts;
const LOOKS: Record<State, string> = {
  running: "warm",
  done: "good",
  failed: "bad",
  stopped: "",
  killed: "bad",
};

/** How a run stands. */
export function StateBadge({ state }: { state: State }) {
  return (
    <span class={`badge ${LOOKS[state]} state-${state}`}>
      {state === "running" && <span class="pulse" aria-hidden="true" />}
      {runs.states[state]}
    </span>
  );
}

const SIGNS = { better: "\u25b2", worse: "\u25bc", undecided: "" };

/** Better or worse, in a sign, a word and a colour. */
export function VerdictBadge({ verdict }: { verdict: Verdict | undefined }) {
  if (!verdict) return null;
  return (
    <span class={`verdict ${verdict}`}>
      {SIGNS[verdict] && <span aria-hidden="true">{SIGNS[verdict]}</span>}
      {watch.verdicts[verdict]}
    </span>
  );
}

/** What a run is doing, and how far a training has come. */
export function Progress({ at }: { at: At | null }) {
  if (!at) return null;
  const doing = runs.doing[at.verb as keyof typeof runs.doing] ?? at.verb;
  const known = at.total && at.step !== undefined;
  return (
    <div class="progress">
      <span>
        {doing} <b>{at.name}</b>
      </span>
      {at.step !== undefined && <span class="muted number">{runs.step(at.step, at.total ?? null)}</span>}
      {known && <progress value={at.step} max={at.total ?? 1} aria-label={runs.progress(at.name)} />}
    </div>
  );
}

interface Wide {
  label: string;
  children: ComponentChildren;
  class?: string;
}

/** A table that is moved by itself where it is wider than the page. */
export function Table({ label, children, class: name = "" }: Wide) {
  return (
    <div class={`table ${name}`} role="region" aria-label={label} tabIndex={0}>
      <table>{children}</table>
    </div>
  );
}

/** What is said where there is nothing yet, and what to type. */
export function Empty({ title, more, command }: { title: string; more: string; command?: string }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      <p>{more}</p>
      {command && <code class="command">{command}</code>}
    </div>
  );
}

/** A moment, as long ago as it is. */
export function Ago({ seconds }: { seconds: number }) {
  const now = Date.now() / 1000;
  return (
    <time dateTime={new Date(seconds * 1000).toISOString()} title={watch.moment(seconds)}>
      {watch.ago(now - seconds)}
    </time>
  );
}

/** Names with what they stand for, in a row. */
export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  const there = of.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return (
    <dl class="facts">
      {there.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A part of a view under a heading. */
export function Part({
  id,
  title,
  more,
  children,
}: {
  id: string;
  title: string;
  more?: string;
  children: ComponentChildren;
}) {
  return (
    <section class="part">
      <h2 id={id}>{title}</h2>
      {more && <p class="muted small-text">{more}</p>}
      {children}
    </section>
  );
}
