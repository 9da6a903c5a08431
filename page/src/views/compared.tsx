import { json, url } from "../api";
import { useLoaded } from "../loaded";
import { Icon } from "../parts/icon";
import { Banner } from "../parts/trouble";
import { link } from "../place";
import { texts } from "../texts";
import { Drawing } from "../watch/drawing";
import { Ago, Empty, Facts, Part, Table, VerdictBadge } from "../watch/parts";
import type { Comparison, Listed } from "../watch/served";

const { compared, runs, watch } = texts;

export default function Compared({ rest: [name] }: { rest: string[] }) {
  return name ? <One key={name} name={name} /> : <List />;
}

function List() {
  const { value, error, again } = useLoaded<{ data: Listed[] }>((signal) => json("v1/runs", { signal }), []);
  const found = value?.data.filter((one) => one.kind === "comparison") ?? [];
  return (
    <div class="view">
      <header>
        <h1>{compared.title}</h1>
        <p>{compared.more}</p>
      </header>
      {error !== null && <Banner error={error} again={again} />}
      {!value && error === null && <p class="loading">{texts.frame.loading}</p>}
      {value && !found.length && (
        <Empty title={compared.none} more={compared.noneMore} command={compared.noneCommand} />
      )}
      <ul class="cards">
        {found.map((one) => (
          <li key={one.name} class="card run-row">
            <h2>
              <a class="cover" href={link("compared", one.name)}>
                {one.title}
              </a>
            </h2>
            {one.said && <p class="said">{one.said}</p>}
            <p class="muted small-text row">
              <code>{one.name}</code>
              <Ago seconds={one.changed} />
            </p>
          </li>
        ))}
      </ul>
    </div>
  );
}

function One({ name }: { name: string }) {
  const path = `v1/comparisons/${encodeURIComponent(name)}`;
  const { value, error, again } = useLoaded<Comparison>((signal) => json(path, { signal }), [path]);
  return (
    <div class="view">
      <nav aria-label={compared.all}>
        <a class="back" href={link("compared")}>
          <Icon name="left" size={16} />
          {compared.all}
        </a>
      </nav>
      {error !== null && <Banner error={error} again={again} />}
      {!value && error === null && <p class="loading">{texts.frame.loading}</p>}
      {value && <Shown of={value} />}
    </div>
  );
}

function Shown({ of }: { of: Comparison }) {
  return (
    <>
      <header>
        <h1>{of.title}</h1>
        {of.advice.map((line) => (
          <p key={line} class="lead">
            {line}
          </p>
        ))}
        <Facts
          of={[
            [compared.model, of.model],
            [compared.data, of.data.read],
            [compared.budget, of.budget],
            [compared.seeds, of.seeds],
          ]}
        />
        {of.report && (
          <div class="row">
            <a class="button" href={url(of.report)} target="_blank" rel="noopener">
              <Icon name="note" size={16} />
              {runs.alone}
            </a>
          </div>
        )}
      </header>
      <Part id="table" title={compared.table} more={compared.tableMore}>
        <Table label={compared.table} class="figures">
          <thead>
            <tr>
              <th scope="col">{compared.method}</th>
              {of.columns.map((one) => (
                <th key={one.name} scope="col">
                  {one.name}
                  <span class="about">{runs.better(one.unit, one.better)}</span>
                </th>
              ))}
              <th scope="col" class="number">
                {compared.spent}
              </th>
            </tr>
          </thead>
          <tbody>
            {of.methods.map((one) => (
              <Method key={one.name} of={one} />
            ))}
          </tbody>
        </Table>
        {Object.entries(of.failed).map(([method, reason]) => (
          <p key={method} class="muted small-text">
            <b>{method}</b> {compared.failed}: {reason}
          </p>
        ))}
      </Part>
      {of.plots.length > 0 && (
        <Part id="plots" title={compared.plots} more={compared.plotsMore}>
          <div class="multiples plots">
            {of.plots.map((plot) => (
              <figure key={plot.title} class="card chart plot">
                <figcaption>
                  <b>{plot.title}</b>
                </figcaption>
                <Drawing image={plot.image} />
                <p class="muted small-text">{compared.front(plot.front)}</p>
              </figure>
            ))}
          </div>
        </Part>
      )}
    </>
  );
}

function Method({ of }: { of: Comparison["methods"][number] }) {
  return (
    <tr class={of.best ? "best" : ""}>
      <th scope="row">
        {of.name}
        {of.best && <span class="badge good">{compared.best}</span>}
        {of.dropped && <span class="about">{compared.dropped(of.dropped)}</span>}
      </th>
      {of.cells.map((cell, at) => (
        <td key={at}>
          {cell.after ? (
            <>
              <b class="number">{cell.after}</b>
              <span class="about number">
                {cell.difference} ({cell.interval})
              </span>
              <VerdictBadge verdict={cell.verdict} />
            </>
          ) : (
            watch.none
          )}
        </td>
      ))}
      <td class="number">
        {of.spent.time}
        <span class="about">{watch.times(of.spent.tokens, runs.tokens)}</span>
      </td>
    </tr>
  );
}
