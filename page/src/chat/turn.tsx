import { useEffect, useRef, useState } from "preact/hooks";
import { about } from "../api";
import { IconButton } from "../parts/button";
import { copied, Markdown } from "../parts/markdown";
import { useShared } from "../shared";
import { texts } from "../texts";
import { Judging, Votes } from "./judging";
import { Probabilities } from "./probabilities";
import { ending, type Talk } from "./talk";
import type { Turn } from "./tree";

const { chat } = texts;

interface Given {
  talk: Talk;
  turn: Turn;
  editing: boolean;
  onEdit: (turn: Turn | null) => void;
}

/** A message of a conversation, and what can be done with it. */
export function TurnShown({ talk, turn, editing, onEdit }: Given) {
  const who = turn.role === "assistant" ? (turn.model ?? chat.model) : chat.who[turn.role];
  return (
    <li class={`turn ${turn.role}`} id={turn.key}>
      <article aria-label={who} aria-busy={turn.state === "coming"}>
        {turn.role !== "user" && <p class="who">{who}</p>}
        {editing ? <Editing talk={talk} turn={turn} onEdit={onEdit} /> : <Said turn={turn} />}
        {turn.role === "assistant" ? (
          <ReplyFoot talk={talk} turn={turn} />
        ) : (
          !editing && <AskedFoot talk={talk} turn={turn} onEdit={onEdit} />
        )}
      </article>
    </li>
  );
}

function Said({ turn }: { turn: Turn }) {
  const coming = turn.state === "coming";
  if (turn.role !== "assistant") return <div class="said">{turn.content}</div>;
  return (
    <div class={turn.flagged ? "said flagged" : "said"}>
      {turn.thoughts && (
        <details class="thoughts">
          <summary>{chat.thoughts}</summary>
          <p>{turn.thoughts}</p>
        </details>
      )}
      {turn.content ? <Markdown text={turn.content} /> : coming && <p class="waiting">{chat.waiting}</p>}
      {!turn.content && !coming && <p class="muted">{chat.nothing}</p>}
    </div>
  );
}

function ReplyFoot({ talk, turn }: { talk: Talk; turn: Turn }) {
  const told = useShared(about);
  const [open, unfold] = useState(false);
  const [likely, show] = useState(false);
  if (turn.state === "coming") return null;
  const why = ending(turn);
  const judged = told?.kept && turn.id && !turn.flagged;
  return (
    <>
      {why && (
        <p class="ending muted small-text">
          {why}
          {turn.broken && (
            <button type="button" class="small" onClick={() => turn.parent && void talk.answer(turn.parent)}>
              {texts.trouble.again}
            </button>
          )}
        </p>
      )}
      {likely && turn.tokens.length > 0 && <Probabilities tokens={turn.tokens} />}
      <div class="foot">
        <Branches talk={talk} turn={turn} />
        <IconButton
          icon="again"
          says={chat.again}
          small
          onClick={() => turn.parent && void talk.answer(turn.parent)}
        />
        <Copy text={turn.content} />
        {turn.tokens.length > 0 && (
          <IconButton
            icon="traffic"
            says={chat.probabilities}
            small
            aria-pressed={likely}
            onClick={() => show(!likely)}
          />
        )}
        {judged && <Votes talk={talk} turn={turn} />}
        {judged && (
          <IconButton icon="note" says={chat.judge} small aria-pressed={open} onClick={() => unfold(!open)} />
        )}
      </div>
      {open && judged && <Judging talk={talk} turn={turn} criteria={told.criteria} />}
    </>
  );
}

function AskedFoot({ talk, turn, onEdit }: Omit<Given, "editing">) {
  const unanswered = turn.role === "user" && !turn.replies.length && !talk.busy;
  return (
    <>
      <div class="foot">
        <Branches talk={talk} turn={turn} />
        {(turn.role === "user" || turn.role === "system") && (
          <IconButton icon="edit" says={chat.edit} small onClick={() => onEdit(turn)} />
        )}
        <Copy text={turn.content} />
      </div>
      {unanswered && (
        <p class="ending muted small-text">
          {chat.unanswered}
          <button type="button" class="small" onClick={() => void talk.answer(turn)}>
            {texts.trouble.again}
          </button>
        </p>
      )}
    </>
  );
}

function Editing({ talk, turn, onEdit }: Omit<Given, "editing">) {
  const [text, write] = useState(turn.content);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  const send = () => {
    if (!text.trim()) return;
    onEdit(null);
    void talk.edit(turn, text.trim());
  };
  return (
    <form
      class="stack editing"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={field}
        rows={Math.min(12, text.split("\n").length + 1)}
        value={text}
        aria-label={chat.editing}
        onInput={(event) => write(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onEdit(null);
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
        }}
      />
      <div class="row end">
        <button type="button" class="quiet small" onClick={() => onEdit(null)}>
          {chat.cancel}
        </button>
        <button type="submit" class="primary small" disabled={!text.trim()}>
          {chat.resend}
        </button>
      </div>
    </form>
  );
}

/** Which of several stands here, and the way to the others. */
function Branches({ talk, turn }: { talk: Talk; turn: Turn }) {
  const beside = turn.parent?.replies ?? [];
  if (beside.length < 2) return null;
  const at = beside.indexOf(turn);
  return (
    <div class="branches" role="group" aria-label={chat.branches}>
      <IconButton
        icon="left"
        says={chat.before}
        small
        disabled={at === 0}
        onClick={() => talk.choose(turn, at - 1)}
      />
      <span class="number small-text" aria-label={chat.branchLong(at + 1, beside.length)}>
        {chat.branch(at + 1, beside.length)}
      </span>
      <IconButton
        icon="right"
        says={chat.after}
        small
        disabled={at + 1 === beside.length}
        onClick={() => talk.choose(turn, at + 1)}
      />
    </div>
  );
}

function Copy({ text }: { text: string }) {
  const [done, tell] = useState(false);
  const copy = () => void copied(text).then(() => tell(true));
  const says = done ? texts.parts.copied : texts.parts.copy;
  return <IconButton icon={done ? "check" : "copy"} says={says} small onClick={copy} />;
}
