import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { json } from "../api";
import { back } from "../away";
import { Choices } from "../chat/choices";
import { Composer } from "../chat/composer";
import type { Turn } from "../chat/tree";
import { useKeys } from "../keys";
import { useLoaded } from "../loaded";
import { Icon } from "../parts/icon";
import { Banner } from "../parts/trouble";
import { go } from "../place";
import { useShared } from "../shared";
import { texts } from "../texts";
import { contests, type Contest } from "./contest";
import { Lines } from "./said";

const { chat, rating } = texts;

/** The contest of this id, or a new one, and the models that are served. */
export function useContest(view: string, id: string | undefined) {
  const contest = useMemo(() => (id ? contests.of(id) : contests.fresh()), [id]);
  const version = useShared(contest.changed);
  const models = useLoaded((signal) => json<{ data: { id: string }[] }>("v1/models", { signal }), []);
  useEffect(() => {
    if (!id && contest.root.replies.length) go([view, contest.id], { replace: true });
  }, [version]);
  useEffect(() => back.watch(models.again), []);
  const names = models.value?.data.map((one) => one.id) ?? null;
  return { contest, names, models };
}

interface Given {
  view: string;
  title: string;
  more: string;
  contest: Contest;
  ready: boolean;
  controls?: ComponentChildren;
  error?: unknown;
  again?: () => void;
  /** The newest question with its replies. */
  newest: (asked: Turn) => ComponentChildren;
  /** What is said of a judgement that was made. */
  outcome: (asked: Turn) => string | null;
  /** What is said below where one writes. */
  foot: string;
  /** What stands at the foot while a judgement is wanted; null where one writes. */
  judging: ComponentChildren | null;
  status: string;
}

/** A conversation whose replies are judged: what was said, the newest question with all its replies, and at
 * the foot what is to be done. */
export function Table(given: Given) {
  const { view, title, more, contest, ready, controls, newest, outcome, judging, status } = given;
  useShared(contest.changed);
  const [chosen, choose] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  const { rounds } = contest;
  const last = rounds.at(-1);
  const start = () => go([view]);
  useKeys([
    { keys: "/", says: rating.keys.say, does: () => document.getElementById("say")?.focus() },
    { keys: "n", says: rating.keys.fresh, does: start },
    { keys: "s", says: rating.keys.settings, does: () => choose(true) },
  ]);
  // A new question is brought to the top; what comes below it is read from there.
  useLayoutEffect(() => {
    if (last) document.getElementById(last.key)?.scrollIntoView({ block: "start" });
  }, [last?.key]);
  useEscape(contest);
  return (
    <div class="chat-main rating">
      <header class="chat-head">
        <h1 class="rating-title">{texts.views[view as "pair" | "rank"]}</h1>
        {controls}
        <button type="button" class="quiet" onClick={() => choose(true)}>
          <Icon name="sliders" />
          <span class="only-wide">{chat.settings}</span>
          <span class="hidden only-narrow">{chat.settings}</span>
        </button>
        <button type="button" class="quiet" onClick={start} disabled={!rounds.length}>
          <Icon name="plus" />
          <span class="only-wide">{rating.fresh}</span>
          <span class="hidden only-narrow">{rating.fresh}</span>
        </button>
      </header>
      <div class="turns" ref={place} tabIndex={0} role="region" aria-label={rating.asked}>
        {contest.loading && <p class="loading">{texts.frame.loading}</p>}
        {!last && !contest.loading && (
          <div class="empty">
            <h2 class="display">{title}</h2>
            <p>{more}</p>
          </div>
        )}
        <ol>
          {rounds.slice(0, -1).map((asked) => (
            <Past key={asked.key} asked={asked} outcome={outcome(asked)} />
          ))}
        </ol>
        {last && (
          <section class="newest" id={last.key} key={last.key}>
            <ol>
              <Lines of={[line(last)]} />
            </ol>
            {newest(last)}
          </section>
        )}
        <p class="hidden" role="status">
          {status}
        </p>
      </div>
      <footer class="chat-foot">
        {contest.trouble !== null && (
          <Banner
            error={contest.trouble}
            close={() => {
              contest.trouble = null;
              contest.tell();
            }}
          />
        )}
        {given.error !== null && given.error !== undefined && (
          <Banner error={given.error} again={given.again} />
        )}
        {judging ?? <Composer key={contest.id} talk={contest} ready={ready} />}
        <p class="muted small-text caution">{given.foot}</p>
      </footer>
      {chosen && <Choices begun={rounds.length > 0} onClose={() => choose(false)} />}
    </div>
  );
}

const line = (of: Turn) => ({
  id: of.key,
  role: of.role,
  who: of.role === "assistant" ? (of.model ?? chat.model) : chat.who[of.role],
  content: of.content,
});

function Past({ asked, outcome }: { asked: Turn; outcome: string | null }) {
  const reply = asked.replies[asked.chosen];
  return (
    <>
      <Lines of={[line(asked), ...(reply ? [line(reply)] : [])]} />
      {outcome && <li class="muted small-text outcome">{outcome}</li>}
    </>
  );
}

function useEscape(contest: Contest): void {
  useEffect(() => {
    const escape = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || !contest.busy || document.querySelector("dialog[open]")) return;
      contest.stop();
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [contest]);
}
