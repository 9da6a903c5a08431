import { useEffect, useRef, useState } from "preact/hooks";
import { json, url } from "../api";
import { Icon } from "../parts/icon";
import { Banner } from "../parts/trouble";
import { link } from "../place";
import { texts } from "../texts";
import { CurvesShown } from "../watch/curves";
import { Drawing } from "../watch/drawing";
import { Facts, Part, Progress, StateBadge, Table, VerdictBadge } from "../watch/parts";
import { usePolled } from "../watch/polled";
import type { Figure, Run as Told } from "../watch/served";

const { runs, watch } = texts;
const OFTEN = 3000; // milliseconds; its curves are asked for more often

/** One run: what it is doing, or what came of it. */
export function Run({ name }: { name: string }) {
  const path = `v1/runs/${encodeURIComponent(name)}`;
  const { value, error, again } = usePolled<Told>(
    (signal) => json(path, { signal }),
    [path],
    (found) => (found.state === "running" ? OFTEN : null),
  );
  const said = useChange(value);
  return (
    <div class="view">
      <nav aria-label={runs.all}>
        <a class="back" href={link("runs")}>
          <Icon name="left" size={16} />
          {runs.all}
        </a>
      </nav>
      {error !== null && <Banner error={error} again={again} />}
      {!value && error === null && <p class="loading">{texts.frame.loading}</p>}
      {value && <Shown of={value} />}
      <p class="hidden" role="status">
        {said}
      </p>
    </div>
  );
}

/** Says aloud that a run has ended; that it goes on is said by nothing but its bar. */
function useChange(of: Told | null): string {
  const before = useRef<Told["state"] | null>(null);
  const [said, say] = useState("");
  useEffect(() => {
    if (of && before.current && before.current !== of.state) say(runs.changed(runs.states[of.state]));
    before.current = of?.state ?? before.current;
  }, [of?.state]);
  return said;
}

function Shown({ of }: { of: Told }) {
  return (
    <>
      <header>
        <div class="row">
          <StateBadge state={of.state} />
          {of.tiny && <span class="badge warm">{runs.tiny}</span>}
          <code class="muted small-text">{of.name}</code>
        </div>
        <h1>{of.title}</h1>
        {of.said && <p class="lead">{of.said}</p>}
        {of.tally && <p class="muted">{of.tally}</p>}
        {of.tiny && <p class="muted">{runs.tinyMore}</p>}
        {of.state === "killed" && <p class="muted">{runs.killed}</p>}
        <Progress at={of.at} />
        <Facts
          of={[
            [runs.base, of.base],
            [runs.seed, of.seed],
            [runs.took, of.seconds === null ? null : watch.took(of.seconds)],
            [runs.source, of.source],
          ]}
        />
        {(of.report || of.data.length > 0) && (
          <div class="row">
            {of.report && (
              <a class="button" href={url(of.report)} target="_blank" rel="noopener">
                <Icon name="note" size={16} />
                {runs.alone}
              </a>
            )}
            {of.data.length > 0 && (
              <a class="button" href={link("data", of.name)}>
                <Icon name="data" size={16} />
                {runs.browse}
              </a>
            )}
          </div>
        )}
      </header>
      {of.warnings && of.warnings.length > 0 && (
        <section class="banner calm" aria-label={runs.warnings}>
          <ul>
            {of.warnings.map((one) => (
              <li key={one}>{one}</li>
            ))}
          </ul>
        </section>
      )}
      <Claims of={of} />
      <CurvesShown name={of.name} state={of.state} />
      {of.figures.length > 0 && <Figures of={of.figures} />}
      {of.steps.length > 0 && <Steps of={of} />}
      {of.report && (
        <Part id="report" title={runs.report}>
          <iframe
            class="report"
            src={url(of.report)}
            title={runs.reportFrame(of.title)}
            sandbox="allow-popups"
            loading="lazy"
          />
        </Part>
      )}
      {of.next && of.next.length > 0 && (
        <Part id="next" title={runs.next}>
          {of.next.map((one) => (
            <code key={one} class="command">
              {one}
            </code>
          ))}
        </Part>
      )}
    </>
  );
}

function Claims({ of }: { of: Told }) {
  if (!of.claims.length) return null;
  return (
    <Part id="claims" title={runs.claims}>
      <ul class="claims">
        {of.claims.map((one) => (
          <li
            key={one.text}
            class={`card ${one.verdict === "holds" ? "holds" : one.verdict === "fails" ? "fails" : ""}`}
          >
            <b>{runs.claim[one.verdict] ?? one.verdict}</b>
            <span>{one.text}</span>
            <span class="muted number">
              {one.difference} {one.interval && `(${runs.interval(one.interval)})`}
            </span>
          </li>
        ))}
      </ul>
    </Part>
  );
}

function Figures({ of }: { of: Figure[] }) {
  return (
    <Part id="figures" title={runs.figures}>
      <Table label={runs.figures} class="figures">
        <thead>
          <tr>
            <th scope="col">{runs.measure}</th>
            <th scope="col" class="number">
              {runs.before}
            </th>
            <th scope="col" class="number">
              {runs.after}
            </th>
            <th scope="col" class="number">
              {runs.difference}
            </th>
            <th scope="col" class="only-broad">
              <span class="hidden">{runs.drawn}</span>
            </th>
            <th scope="col">{runs.verdict}</th>
          </tr>
        </thead>
        <tbody>
          {of.map((row) => (
            <tr key={`${row.model} ${row.task} ${row.on} ${row.name}`}>
              <th scope="row">
                {row.name}
                <span class="about">
                  {row.task}, {runs.items(row.n)}
                </span>
                <span class="about">{runs.better(row.unit, row.better)}</span>
              </th>
              <td class="number">{row.against ? row.before : watch.none}</td>
              <td class="number">
                <b>{row.after}</b>
              </td>
              <td class="number">
                {row.against ? row.difference : watch.none}
                {row.interval && <span class="about">{row.interval}</span>}
              </td>
              <td class="only-broad forest">{row.against && <Drawing image={row.image} />}</td>
              <td>
                <VerdictBadge verdict={row.verdict} />
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Part>
  );
}

function Steps({ of }: { of: Told }) {
  return (
    <Part id="steps" title={runs.steps}>
      <ol class="steps">
        {of.steps.map((step, at) => (
          <li key={at}>
            <span class="muted">{runs.stepVerbs[step.verb] ?? step.verb}</span>
            <b>{step.name ?? step.model}</b>
            <span class="muted small-text">
              {step.verb === "data" && step.examples !== null && watch.times(step.examples, runs.examples)}
              {step.verb === "train" && step.tokens !== null && watch.times(step.tokens, runs.tokens)}
            </span>
            <span class="muted small-text number">
              {step.reused ? runs.reused : step.seconds !== null && watch.took(step.seconds)}
            </span>
          </li>
        ))}
      </ol>
    </Part>
  );
}
