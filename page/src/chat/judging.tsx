import { useId, useState } from "preact/hooks";
import { IconButton } from "../parts/button";
import { texts } from "../texts";
import type { Judgement } from "./served";
import type { Talk } from "./talk";
import type { Turn } from "./tree";

const { judging } = texts;
const MARKS = [1, 2, 3, 4, 5];

interface Given {
  talk: Talk;
  turn: Turn;
}

// What could not be kept is said above the conversation.
const keep = (talk: Talk, turn: Turn, judgement: Judgement): Promise<boolean> =>
  talk.judge(turn, judgement).then(
    () => true,
    () => false,
  );

/** Say whether a reply is good; the same again takes it back. */
export function vote(talk: Talk, turn: Turn, value: 1 | -1): void {
  const before = turn.judgements.find((one) => one.kind === "vote")?.value;
  void keep(talk, turn, { kind: "vote", value: before === value ? 0 : value });
}

export function Votes({ talk, turn }: Given) {
  const value = turn.judgements.find((one) => one.kind === "vote")?.value;
  return (
    <>
      {([1, -1] as const).map((one) => (
        <IconButton
          key={one}
          icon={one === 1 ? "up" : "down"}
          says={one === 1 ? judging.good : judging.bad}
          small
          aria-pressed={value === one}
          onClick={() => vote(talk, turn, one)}
        />
      ))}
    </>
  );
}

/** Scales, a better reply, and words about one. */
export function Judging({ talk, turn, criteria }: Given & { criteria: readonly string[] }) {
  const comments = turn.judgements.filter((one) => one.kind === "comment");
  return (
    <section class="judging card stack" aria-label={judging.title}>
      <div class="scales">
        {criteria.map((one) => (
          <Scale key={one} talk={talk} turn={turn} criterion={one} />
        ))}
      </div>
      <Correction talk={talk} turn={turn} />
      {comments.length > 0 && (
        <ul class="comments">
          {comments.map((one, at) => (
            <li key={at}>{one.text}</li>
          ))}
        </ul>
      )}
      <Comment talk={talk} turn={turn} />
    </section>
  );
}

function Scale({ talk, turn, criterion }: Given & { criterion: string }) {
  const name = useId();
  const value = turn.judgements.find((one) => one.kind === "scale" && one.name === criterion)?.value;
  return (
    <fieldset class="scale">
      <legend>{criterion}</legend>
      <div class="marks">
        {MARKS.map((mark) => (
          <label key={mark} class={value === mark ? "chosen" : ""}>
            <input
              type="radio"
              class="hidden"
              name={name}
              value={mark}
              checked={value === mark}
              onChange={() => void keep(talk, turn, { kind: "scale", name: criterion, value: mark })}
            />
            {mark}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function Correction({ talk, turn }: Given) {
  const before = turn.judgements.find((one) => one.kind === "correction")?.text;
  const [text, write] = useState(before ?? turn.content);
  const [kept, tell] = useState(false);
  const same = text.trim() === (before ?? turn.content).trim();
  return (
    <form
      class="field"
      onSubmit={(event) => {
        event.preventDefault();
        void keep(talk, turn, { kind: "correction", text: text.trim() }).then(tell);
      }}
    >
      <label class="field">
        <span>{judging.correction}</span>
        <textarea
          rows={4}
          value={text}
          onInput={(event) => {
            write(event.currentTarget.value);
            tell(false);
          }}
        />
      </label>
      <div class="row apart">
        <span class="muted small-text" role="status">
          {kept ? judging.kept : judging.correctionMore}
        </span>
        <button type="submit" class="small" disabled={same || !text.trim()}>
          {judging.keepCorrection}
        </button>
      </div>
    </form>
  );
}

function Comment({ talk, turn }: Given) {
  const [text, write] = useState("");
  return (
    <form
      class="row comment"
      onSubmit={(event) => {
        event.preventDefault();
        void keep(talk, turn, { kind: "comment", text: text.trim() }).then((kept) => kept && write(""));
      }}
    >
      <input
        type="text"
        value={text}
        placeholder={judging.comment}
        aria-label={judging.comment}
        onInput={(event) => write(event.currentTarget.value)}
      />
      <button type="submit" class="small" disabled={!text.trim()}>
        {judging.keepComment}
      </button>
    </form>
  );
}
