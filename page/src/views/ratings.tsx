import { useState } from "preact/hooks";
import { json } from "../api";
import { useLoaded } from "../loaded";
import { Switch } from "../parts/switch";
import { Banner } from "../parts/trouble";
import { texts } from "../texts";
import { Empty, Part, Table } from "../watch/parts";
import type { Agreement, Pair, Ratings as Told, Strength } from "../watch/served";

const { ratings, watch } = texts;

export default function Ratings() {
  const [blind, only] = useState(false);
  const { value, error, again } = useLoaded<Told>(
    (signal) => json(`v1/ratings?blind=${blind}`, { signal }),
    [blind],
  );
  return (
    <div class="view">
      <header>
        <h1>{ratings.title}</h1>
        <p>{ratings.more}</p>
      </header>
      <div class="row apart">
        <p class="muted" role="status">
          {value &&
            ratings.counted(
              watch.times(value.comparisons, ratings.comparison),
              watch.times(value.messages, ratings.message),
              ratings.person(value.people),
            )}
        </p>
        <Switch on={blind} onChange={only} label={ratings.blind} more={ratings.blindMore} />
      </div>
      {error !== null && <Banner error={error} again={again} />}
      {!value && error === null && <p class="loading">{texts.frame.loading}</p>}
      {value && !value.pairs.length && (
        <Empty title={ratings.none} more={blind ? ratings.noneBlind : ratings.noneMore} />
      )}
      {value && value.pairs.length > 0 && (
        <>
          <Strengths of={value.strengths} />
          <Matrix pairs={value.pairs} names={value.strengths.map((one) => one.model)} />
        </>
      )}
      {value && value.agreement.length > 0 && <Agreed of={value.agreement} />}
    </div>
  );
}

function Strengths({ of }: { of: Strength[] }) {
  const ends = of.flatMap((one) => [one.low ?? one.points, one.high ?? one.points, one.points]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = (high - low || 100) * 0.05;
  const place = (points: number) => `${(100 * (points - low + room)) / (high - low + 2 * room)}%`;
  const several = of.some((one) => one.group > 0);
  return (
    <Part id="strengths" title={ratings.strengths} more={ratings.strengthsMore}>
      {several && <p class="small-text">{ratings.apart}</p>}
      <Table label={ratings.strengths}>
        <thead>
          <tr>
            <th scope="col">{ratings.model}</th>
            <th scope="col" class="number">
              {ratings.points}
            </th>
            <th scope="col">{ratings.interval}</th>
            <th scope="col" class="number">
              {ratings.messages}
            </th>
          </tr>
        </thead>
        <tbody>
          {of.map((one) => (
            <tr key={one.model}>
              <th scope="row">
                {one.model}
                {several && <span class="badge">{ratings.group(one.group + 1)}</span>}
              </th>
              <td class="number">
                <b>{Math.round(one.points)}</b>
              </td>
              <td class="interval">
                <div>
                  <span class="whisker" aria-hidden="true">
                    {one.low !== null && one.high !== null && (
                      <span class="reach" style={{ "--from": place(one.low), "--to": place(one.high) }} />
                    )}
                    <span class="dot" style={{ "--at": place(one.points) }} />
                  </span>
                  <span class="muted small-text number">
                    {one.low !== null && one.high !== null
                      ? watch.between(String(Math.round(one.low)), String(Math.round(one.high)))
                      : ratings.few(one.n)}
                  </span>
                </div>
              </td>
              <td class="number">{watch.count(one.n)}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Part>
  );
}

function Matrix({ pairs, names }: { pairs: Pair[]; names: string[] }) {
  const by = new Map(pairs.map((one) => [`${one.first}\n${one.second}`, one]));
  return (
    <Part id="matrix" title={ratings.matrix} more={ratings.matrixMore}>
      <Table label={ratings.matrix} class="matrix">
        <thead>
          <tr>
            <td />
            {names.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {names.map((first) => (
            <tr key={first}>
              <th scope="row">{first}</th>
              {names.map((second) => (
                <Won key={second} of={by.get(`${first}\n${second}`)} />
              ))}
            </tr>
          ))}
        </tbody>
      </Table>
    </Part>
  );
}

function Won({ of }: { of: Pair | undefined }) {
  if (!of) return <td class="none">{watch.none}</td>;
  const known = of.low !== null && of.high !== null;
  const clear = known && (of.low! > 0.5 ? "ahead" : of.high! < 0.5 ? "behind" : "");
  return (
    <td class={`won ${clear || ""}`} title={ratings.won(of.wins, of.ties, of.losses)}>
      <b class="number">{watch.percent(of.value)}</b>
      <span class="share" aria-hidden="true">
        {known && (
          <span class="reach" style={{ "--from": `${100 * of.low!}%`, "--to": `${100 * of.high!}%` }} />
        )}
        <span class="dot" style={{ "--at": `${100 * of.value}%` }} />
      </span>
      <span class="about number">
        {known ? watch.between(watch.percent(of.low!), watch.percent(of.high!)) : ratings.few(of.n)}
      </span>
    </td>
  );
}

const FIRM = 0.8; // Krippendorff's bounds: from here on conclusions rest on it,
const TENTATIVE = 0.667; // and from here on tentative ones

function Agreed({ of }: { of: Agreement[] }) {
  return (
    <Part id="agreement" title={ratings.agreement} more={ratings.agreementMore}>
      <Table label={ratings.agreement}>
        <thead>
          <tr>
            <th scope="col">{ratings.what}</th>
            <th scope="col" class="number">
              {ratings.alpha}
            </th>
            <th scope="col" class="number">
              {ratings.equal}
            </th>
            <th scope="col" class="number">
              {ratings.units}
            </th>
            <th scope="col" class="number">
              {ratings.people}
            </th>
          </tr>
        </thead>
        <tbody>
          {of.map((one) => (
            <tr key={one.kind + one.name}>
              <th scope="row">
                {ratings.kinds[one.kind]}
                {one.name && <span class="about">{one.name}</span>}
              </th>
              <td class="number">
                {one.alpha === null ? (
                  <span class="muted">{ratings.noAlpha}</span>
                ) : (
                  <Alpha value={one.alpha} />
                )}
              </td>
              <td class="number">{one.equal === null ? watch.none : watch.percent(one.equal)}</td>
              <td class="number">{watch.count(one.units)}</td>
              <td class="number">{watch.count(one.people)}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Part>
  );
}

function Alpha({ value }: { value: number }) {
  const said = value >= FIRM ? "firm" : value >= TENTATIVE ? "tentative" : "weak";
  const looks = { firm: "good", tentative: "warm", weak: "bad" }[said];
  return (
    <>
      <b>{watch.signed(value.toFixed(2))}</b> <span class={`badge ${looks}`}>{ratings[said]}</span>
    </>
  );
}
