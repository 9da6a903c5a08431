import { useEffect, useState } from "preact/hooks";
import { settings } from "../chat/settings";
import type { Turn } from "../chat/tree";
import type { Contest } from "../rate/contest";
import { shuffled } from "../rate/contest";
import { Ordering } from "../rate/ordering";
import { Reply } from "../rate/said";
import { Table, useContest } from "../rate/table";
import { texts } from "../texts";

const { rank, rating } = texts;

const COUNTS = [2, 3, 4, 5, 6];
const SEVERAL = "\n"; // no model is called so

/** Several replies to one message, put into an order. */
export default function Rank({ rest: [id] }: { rest: string[] }) {
  const { contest, names, models } = useContest("rank", id);
  const [count, ask] = useState(3);
  const [model, take] = useState<string | null>(null);
  const [places, put] = useState<string[][]>([]);
  const from = model ?? (names && names.length > 1 ? SEVERAL : (names?.[0] ?? settings.value.model ?? ""));
  contest.draw = () => drawn(from, names ?? [], count);
  const last = contest.rounds.at(-1);
  const order = last ? contest.order(last) : null;
  const whole =
    last !== undefined && last.replies.length > 1 && last.replies.every((one) => one.state === "whole");
  const wanted = whole && order === null && !contest.busy;
  useEffect(
    () => put(last?.replies.map((one) => [one.key]) ?? []),
    [contest, last?.key, last?.replies.length],
  );
  const keep = () => {
    const named = places.map((place) => place.map((key) => last!.replies.find((one) => one.key === key)!));
    const blind = new Set(last!.replies.map((one) => one.model)).size > 1;
    void contest.rank(last!, named, { blind });
  };
  return (
    <Table
      view="rank"
      title={rank.title}
      more={rank.more}
      contest={contest}
      ready={Boolean(names?.length)}
      error={models.error}
      again={models.again}
      controls={<Controls {...{ names: names ?? [], from, take, count, ask }} />}
      newest={(asked) => (
        <Ranked contest={contest} asked={asked} places={places} onChange={put} ready={wanted} />
      )}
      outcome={(asked) => (contest.order(asked) ? rating.kept : null)}
      judging={
        wanted ? (
          <div class="votes row apart">
            <p class="small-text muted">{rank.hint}</p>
            <button type="button" class="primary" disabled={contest.keeping} onClick={keep}>
              {rank.keep}
            </button>
          </div>
        ) : null
      }
      foot={order && last ? rating.goesOn(rating.letter(last.chosen)) : rank.foot}
      status={contest.busy ? rating.coming : wanted ? rank.ready : order ? rating.kept : ""}
    />
  );
}

/** The models of the replies: one of them, or all that there are in turn, those first that chance says. */
function drawn(from: string, names: string[], count: number): string[] {
  const several = shuffled(names);
  return Array.from({ length: count }, (_, at) =>
    from === SEVERAL ? (several[at % several.length] ?? "") : from,
  );
}

interface Controlled {
  names: string[];
  from: string;
  take: (model: string) => void;
  count: number;
  ask: (count: number) => void;
}

function Controls({ names, from, take, count, ask }: Controlled) {
  return (
    <>
      <label class="hidden" for="rank-model">
        {rank.model}
      </label>
      <select id="rank-model" value={from} onChange={(event) => take(event.currentTarget.value)}>
        {names.length > 1 && <option value={SEVERAL}>{rank.several}</option>}
        {names.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
      <label class="count small-text muted" for="rank-count">
        {rank.count}
      </label>
      <select id="rank-count" value={count} onChange={(event) => ask(Number(event.currentTarget.value))}>
        {COUNTS.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
    </>
  );
}

interface Shown {
  contest: Contest;
  asked: Turn;
  places: string[][];
  onChange: (places: string[][]) => void;
  ready: boolean;
}

function Ranked({ contest, asked, places, onChange, ready }: Shown) {
  const order = contest.order(asked);
  const several = new Set(asked.replies.map((one) => one.model)).size > 1;
  const items = asked.replies.map((one, at) => ({
    id: one.key,
    label: rating.reply(rating.letter(at)),
    note: order && several ? <span class="badge good">{one.model}</span> : null,
    content: <Reply turn={one} />,
  }));
  const known = new Set(places.flat());
  const all = asked.replies.every((one) => known.has(one.key)) && known.size === asked.replies.length;
  const given = order
    ? order.map((place) => place.map((one) => one.key))
    : all
      ? places
      : items.map((one) => [one.id]);
  const ranked = new Set(given.flat());
  return (
    <Ordering
      items={items.filter((one) => ranked.has(one.id))}
      places={given}
      onChange={onChange}
      fixed={!ready}
    />
  );
}
