import { json } from "../api";
import { Banner } from "../parts/trouble";
import { texts } from "../texts";
import { Drawing } from "./drawing";
import { Part } from "./parts";
import { usePolled } from "./polled";
import type { Chart, Curves, State } from "./served";

const { runs } = texts;
const OFTEN = 2000; // milliseconds between two looks at a run that is at work

/** The curves of a run's trainings, drawn anew while they grow. */
export function CurvesShown({ name, state }: { name: string; state: State }) {
  const path = `v1/runs/${encodeURIComponent(name)}/curves`;
  const { value, error, again } = usePolled<Curves>(
    (signal) => json(path, { signal }),
    [path, state],
    (found) => (found.state === "running" ? OFTEN : null),
  );
  const live = value?.state === "running";
  if (error !== null) return <Banner error={error} again={again} />;
  if (!value || (!live && !value.steps.length)) return null;
  const drawn = value.steps.filter((step) => step.charts.length);
  return (
    <Part id="curves" title={runs.curves} more={live ? runs.curvesLive : runs.bottom}>
      {!drawn.length && <p class="muted">{runs.noCurves}</p>}
      {drawn.map((step) => (
        <section key={step.name} aria-label={step.name}>
          {drawn.length > 1 && <h3>{step.name}</h3>}
          <div class="multiples">
            {step.charts.map((chart) => (
              <ChartShown key={chart.title} chart={chart} />
            ))}
          </div>
        </section>
      ))}
    </Part>
  );
}

function ChartShown({ chart }: { chart: Chart }) {
  return (
    <figure class={chart.wide ? "card chart wide" : "card chart"}>
      <figcaption>
        <b>{chart.title}</b>
        {chart.last && <span class="muted number">{runs.last(chart.last)}</span>}
        {chart.lines.length > 0 && (
          <span class="legend">
            {chart.lines.map((line) => (
              <span key={line.name} class={`key ${line.style}`}>
                {line.style === "thin" ? runs.each : line.name}
              </span>
            ))}
          </span>
        )}
      </figcaption>
      {chart.wide && <Drawing image={chart.wide} kind="broad" />}
      <Drawing image={chart.image} kind={chart.wide ? "slim" : ""} />
    </figure>
  );
}
