import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useKeys } from "../keys";
import { Markdown } from "../parts/markdown";
import { Ordering } from "../rate/ordering";
import { Lines } from "../rate/said";
import { shuffled } from "../rate/contest";
import { remember, remembered, session } from "../shared";
import { texts } from "../texts";
import { rank, reply, review, type Task } from "./tasks";

const { annotate, rank: ranking, rating } = texts;

interface Given {
  task: Task;
  who: string;
  busy: boolean;
  /** Does this, and goes on where it was kept; whether it was. */
  done: (work: () => Promise<unknown>) => Promise<boolean>;
  skip: () => void;
}

/** One thing to do, with what was said before it. */
export function Work(given: Given) {
  const { task } = given;
  const { title, more } = annotate.kinds[task.kind];
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  useKeys([{ keys: "x", says: annotate.keys.skip, does: given.skip }]);
  const before = task.kind === "review" ? task.conversation.slice(0, -1) : task.conversation;
  const judged = task.kind === "review" ? task.conversation.at(-1) : undefined;
  const line = (one: Task["conversation"][number]) => ({ ...one, who: annotate.who[one.role] });
  return (
    <>
      <header class="task-head">
        <h2 class="display" tabIndex={-1} ref={heading}>
          {title}
        </h2>
        <p class="muted">{more || ranking.hint}</p>
      </header>
      {(before.length > 0 || judged) && (
        <section class="thread" aria-label={annotate.thread}>
          {before.length > 0 ? (
            <ol>
              <Lines of={before.map(line)} />
            </ol>
          ) : (
            <p class="muted small-text">{annotate.threadNone}</p>
          )}
          {judged && (
            <article class="judged card" aria-label={annotate.who[judged.role]}>
              <p class="who">{annotate.who[judged.role]}</p>
              {judged.role === "assistant" ? (
                <Markdown text={judged.content} />
              ) : (
                <div class="said">{judged.content}</div>
              )}
            </article>
          )}
        </section>
      )}
      {task.kind === "review" && <Review {...given} />}
      {task.kind === "rank" && <Rank {...given} />}
      {(task.kind === "reply_as_assistant" || task.kind === "reply_as_prompter") && <Write {...given} />}
    </>
  );
}

function Foot({
  says,
  off,
  busy,
  skip,
  submit,
}: {
  says: string;
  off: boolean;
  busy: boolean;
  skip: () => void;
  submit?: () => void;
}) {
  return (
    <div class="row apart">
      <button type="button" class="quiet" onClick={skip} disabled={busy}>
        {annotate.skip}
      </button>
      <button type={submit ? "button" : "submit"} class="primary" disabled={off || busy} onClick={submit}>
        {says}
      </button>
    </div>
  );
}

function Review({ task, who, busy, done, skip }: Given) {
  const [score, give] = useState<number | null>(null);
  const form = useRef<HTMLFormElement>(null);
  useKeys(
    annotate.scores.map(({ value, says }, at) => ({
      keys: `${at + 1}`,
      says: annotate.keys.score(says),
      does: () => {
        give(value);
        form.current?.querySelectorAll<HTMLInputElement>("input")[at]?.focus();
      },
    })),
  );
  return (
    <form
      class="stack"
      ref={form}
      onSubmit={(event) => {
        event.preventDefault();
        if (score !== null && !busy) void done(() => review(who, task.message, score));
      }}
    >
      <fieldset>
        <legend class="hidden">{annotate.score}</legend>
        <div class="scores">
          {annotate.scores.map(({ value, says }, at) => (
            <label key={value} class={score === value ? "chosen" : ""}>
              <input
                type="radio"
                class="hidden"
                name="score"
                value={value}
                checked={score === value}
                onChange={() => give(value)}
              />
              <span>{says}</span>
              <kbd aria-hidden="true">{at + 1}</kbd>
            </label>
          ))}
        </div>
      </fieldset>
      <Foot says={annotate.keepScore} off={score === null} busy={busy} skip={skip} />
    </form>
  );
}

function Write({ task, who, busy, done, skip }: Given) {
  const draft = `reply.${task.message}`;
  const [text, write] = useState(() => remembered(draft, session()) ?? "");
  const type = (typed: string) => {
    write(typed);
    remember(draft, typed || null, session());
  };
  return (
    <form
      class="stack"
      onSubmit={(event) => {
        event.preventDefault();
        if (!text.trim() || busy) return;
        void done(() => reply(who, task.message, text.trim())).then(
          (kept) => kept && remember(draft, null, session()),
        );
      }}
    >
      <label class="field">
        <span>{annotate.reply}</span>
        <textarea
          rows={6}
          value={text}
          onInput={(event) => type(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }}
        />
        {task.replies.length > 0 && (
          <span class="muted small-text">{annotate.others(task.replies.length)}</span>
        )}
      </label>
      <Foot says={annotate.keepReply} off={!text.trim()} busy={busy} skip={skip} />
    </form>
  );
}

function Rank({ task, who, busy, done, skip }: Given) {
  const shown = useMemo(() => shuffled(task.replies), [task]);
  const [places, put] = useState(() => shown.map((one) => [one.id]));
  const items = shown.map((one, at) => ({
    id: one.id,
    label: rating.reply(rating.letter(at)),
    content: <Markdown text={one.content} />,
  }));
  return (
    <div class="stack">
      <Ordering items={items} places={places} onChange={put} />
      <Foot
        says={ranking.keep}
        off={false}
        busy={busy}
        skip={skip}
        submit={() => void done(() => rank(who, task.message, places))}
      />
    </div>
  );
}
