import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Turn } from "../chat/tree";
import { useKeys } from "../keys";
import { Dialog } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { shuffled, type Contest } from "../rate/contest";
import { Reply } from "../rate/said";
import { Table, useContest } from "../rate/table";
import { remember, remembered, Shared, useShared } from "../shared";
import { texts } from "../texts";

const { pair, rating } = texts;

type Vote = keyof typeof pair.votes;
const VOTES = Object.keys(pair.votes) as Vote[];
/** Models that take no part. */
const out = new Shared<readonly string[]>(remembered("pair.out")?.split("\n").filter(Boolean) ?? []);

/** Two models side by side, whose names are hidden until one has voted. */
export default function Pair({ rest: [id] }: { rest: string[] }) {
  const { contest, names, models } = useContest("pair", id);
  const left = useShared(out);
  const [choosing, choose] = useState(false);
  const taking = names?.filter((one) => !left.includes(one)) ?? [];
  const pool = taking.length > 1 ? taking : (names ?? []);
  contest.draw = () => shuffled(pool).slice(0, 2);
  const last = contest.rounds.at(-1);
  const both = last ? compared(contest, last) : null;
  const voted = last ? contest.order(last) : null;
  const wanted = both !== null && voted === null && !contest.busy;
  const vote = (what: Vote) => {
    if (!wanted || !both || contest.keeping) return;
    const [a, b] = both;
    const orders = { first: [[a], [b]], second: [[b], [a]], good: [[a, b]], bad: [[a, b]] };
    const all = what === "good" ? 1 : what === "bad" ? -1 : null;
    void contest.rank(last!, orders[what], { blind: true, all });
  };
  useKeys(
    wanted
      ? VOTES.map((one, at) => ({ keys: `${at + 1}`, says: pair.votes[one], does: () => vote(one) }))
      : [],
  );
  useKeys(
    wanted
      ? [
          { keys: "ArrowLeft", says: pair.votes.first, does: () => vote("first") },
          { keys: "ArrowRight", says: pair.votes.second, does: () => vote("second") },
        ]
      : [],
  );
  if (names && names.length < 2) return <Few />;
  return (
    <>
      <Table
        view="pair"
        title={pair.title}
        more={pair.more}
        contest={contest}
        ready={pool.length > 1}
        error={models.error}
        again={models.again}
        controls={
          names && names.length > 2 ? (
            <button type="button" class="quiet" onClick={() => choose(true)}>
              <Icon name="people" />
              {pair.models}
              <span class="badge">{pool.length}</span>
            </button>
          ) : null
        }
        newest={(asked) => <Both contest={contest} asked={asked} />}
        outcome={(asked) => outcome(contest, asked)}
        judging={wanted ? <Votes onVote={vote} busy={contest.keeping} /> : null}
        foot={last && both && voted ? goesOn(last, both, outcome(contest, last)) : rating.hidden}
        status={said(contest, both, wanted)}
      />
      {choosing && <Taking names={names ?? []} onClose={() => choose(false)} />}
    </>
  );
}

/** The two replies that are compared; null where there are no two that are whole. */
function compared(contest: Contest, asked: Turn): [Turn, Turn] | null {
  const ranked = contest.order(asked)?.flat();
  const [a, b] = asked.replies.filter((one) => !ranked || ranked.includes(one)).slice(-2);
  return a?.state === "whole" && b?.state === "whole" ? [a, b] : null;
}

function goesOn(asked: Turn, both: [Turn, Turn], outcome: string | null): string {
  const at = both.findIndex((one) => one === asked.replies[asked.chosen]);
  return `${outcome ?? ""} ${rating.goesOn(rating.letter(at))}`;
}

function said(contest: Contest, both: [Turn, Turn] | null, wanted: boolean): string {
  if (contest.busy) return rating.coming;
  if (wanted) return pair.ready;
  if (!both) return "";
  return [rating.kept, ...both.map((one, at) => rating.who(rating.letter(at), one.model ?? ""))].join(" ");
}

function outcome(contest: Contest, asked: Turn): string | null {
  const order = contest.order(asked);
  const both = compared(contest, asked);
  if (!order || !both) return null;
  const [one, other] = order.flat().map((reply) => reply.model ?? "") as [string, string];
  if (order.length > 1) return pair.outcome.won(one, other);
  const votes = both.map((reply) => reply.judgements.find((judged) => judged.kind === "vote")?.value);
  if (votes.every((value) => value === 1)) return pair.outcome.good(one, other);
  return votes.every((value) => value === -1) ? pair.outcome.bad(one, other) : pair.outcome.tied(one, other);
}

function Both({ contest, asked }: { contest: Contest; asked: Turn }) {
  const order = contest.order(asked);
  const shown = order ? asked.replies.filter((one) => order.flat().includes(one)) : asked.replies.slice(-2);
  return (
    <div class="both">
      {shown.map((one, at) => {
        const label = rating.reply(rating.letter(at));
        const best = order !== null && order.length > 1 && order[0]?.[0] === one;
        const on = asked.replies[asked.chosen] === one;
        return (
          <article
            key={one.key}
            class={best ? "side best" : "side"}
            aria-label={order ? `${label}, ${one.model}` : label}
            aria-busy={one.state === "coming"}
          >
            <header class="side-head">
              <span class="letter" aria-hidden="true">
                {rating.letter(at)}
              </span>
              <h2>{order ? one.model : label}</h2>
              {best && (
                <span class="badge good">
                  <Icon name="check" size={14} />
                  {pair.better}
                </span>
              )}
            </header>
            <Reply turn={one} />
            {order && (
              <footer class="side-foot">
                <button
                  type="button"
                  class="quiet small"
                  aria-pressed={on}
                  onClick={() => contest.choose(one)}
                >
                  {rating.goOn}
                </button>
              </footer>
            )}
          </article>
        );
      })}
    </div>
  );
}

function Votes({ onVote, busy }: { onVote: (what: Vote) => void; busy: boolean }) {
  const group = useRef<HTMLDivElement>(null);
  const named = useId();
  useEffect(() => group.current?.focus({ preventScroll: true }), []);
  return (
    <div class="votes" role="group" aria-labelledby={named} ref={group} tabIndex={-1}>
      <p id={named}>{pair.vote}</p>
      <div class="vote-row">
        {VOTES.map((one, at) => (
          <button key={one} type="button" class={`vote ${one}`} disabled={busy} onClick={() => onVote(one)}>
            {pair.votes[one]}
            <kbd aria-hidden="true">{at + 1}</kbd>
          </button>
        ))}
      </div>
    </div>
  );
}

/** Which models take part. */
function Taking({ names, onClose }: { names: string[]; onClose: () => void }) {
  const left = useShared(out);
  const taking = names.filter((one) => !left.includes(one));
  const change = (name: string, on: boolean) => {
    out.value = on ? left.filter((one) => one !== name) : [...left, name];
    remember("pair.out", out.value.join("\n") || null);
  };
  return (
    <Dialog title={pair.models} onClose={onClose}>
      <p class="muted">{pair.modelsMore}</p>
      <ul class="taking">
        {names.map((name) => {
          const on = taking.includes(name);
          return (
            <li key={name}>
              <label class="row">
                <input
                  type="checkbox"
                  checked={on}
                  disabled={on && taking.length < 3}
                  onChange={(event) => change(name, event.currentTarget.checked)}
                />
                {name}
              </label>
            </li>
          );
        })}
      </ul>
      {taking.length < 3 && <p class="muted small-text">{pair.modelsLeast}</p>}
    </Dialog>
  );
}

function Few() {
  return (
    <div class="empty">
      <h1>{pair.few}</h1>
      <p>{pair.fewMore}</p>
      <pre class="command">
        <code>{pair.fewCommand}</code>
      </pre>
    </div>
  );
}
