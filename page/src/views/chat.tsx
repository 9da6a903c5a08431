import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { about, json } from "../api";
import { back } from "../away";
import { Choices } from "../chat/choices";
import { Composer } from "../chat/composer";
import { Conversations } from "../chat/conversations";
import { vote } from "../chat/judging";
import { set, settings } from "../chat/settings";
import { talks, type Talk } from "../chat/talk";
import type { Turn } from "../chat/tree";
import { TurnShown } from "../chat/turn";
import { useKeys } from "../keys";
import { useLoaded } from "../loaded";
import { IconButton } from "../parts/button";
import { Dialog } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { Banner } from "../parts/trouble";
import { go } from "../place";
import { useShared } from "../shared";
import { texts } from "../texts";

const { chat } = texts;
const NEAR = 80; // pixels from the end at which what comes is followed

export default function Chat({ rest: [id] }: { rest: string[] }) {
  const told = useShared(about);
  const talk = useMemo(() => (id ? talks.of(id) : talks.fresh()), [id]);
  const version = useShared(talk.changed);
  const [chosen, choose] = useState(false);
  const [listed, list] = useState(false);
  const [editing, edit] = useState<Turn | null>(null);
  const models = useLoaded((signal) => json<{ data: { id: string }[] }>("v1/models", { signal }), []);
  const names = models.value?.data.map((one) => one.id) ?? [];
  const { model } = useShared(settings);
  const begin = () => go(["chat"]);
  const say = () => document.getElementById("say")?.focus();

  // Before anybody sees the list, or what waits for it is sent: no choice is undone, and none is missing.
  useLayoutEffect(() => {
    if (names[0] && (!model || !names.includes(model))) set({ model: names[0] });
  }, [models.value]);
  useEffect(() => {
    if (!id && talk.root.replies.length) go(["chat", talk.id], { replace: true });
  }, [version]);
  useEffect(() => edit(null), [talk]);
  useEffect(() => {
    if (talk.missing) go(["chat"], { replace: true });
  }, [talk, talk.missing]);
  useEffect(
    () =>
      back.watch(() => {
        models.again();
        void talk.settle();
      }),
    [talk],
  );
  useChatKeys(talk, { choose: () => choose(true), list: () => list(true), begin, edit, say });

  const kept = told?.kept ?? false;
  const listing = <Listing {...{ talk, kept, begin }} close={() => list(false)} />;
  return (
    <div class="chat">
      <aside class="chat-list" aria-label={chat.conversations}>
        {listing}
      </aside>
      <div class="chat-main">
        <header class="chat-head">
          <IconButton
            icon="list"
            says={chat.conversations}
            look="quiet only-narrow"
            onClick={() => list(true)}
          />
          <label class="hidden" for="model">
            {chat.model}
          </label>
          <select
            id="model"
            value={model ?? ""}
            onChange={(event) => set({ model: event.currentTarget.value })}
          >
            {names.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
          <button type="button" class="quiet" onClick={() => choose(true)}>
            <Icon name="sliders" />
            <span class="only-wide">{chat.settings}</span>
            <span class="hidden only-narrow">{chat.settings}</span>
          </button>
        </header>
        <Turns talk={talk} editing={editing} onEdit={edit} />
        <footer class="chat-foot">
          {talk.trouble !== null && (
            <Banner
              error={talk.trouble}
              close={() => {
                talk.trouble = null;
                talk.tell();
              }}
            />
          )}
          {models.error !== null && <Banner error={models.error} again={models.again} />}
          <Composer key={talk.id} talk={talk} ready={names.length > 0} />
          <p class="muted small-text caution">{kept ? chat.caution : chat.cautionUnkept}</p>
        </footer>
      </div>
      {chosen && <Choices begun={talk.root.replies.length > 0} onClose={() => choose(false)} />}
      {listed && (
        <Dialog title={chat.conversations} onClose={() => list(false)}>
          {listing}
        </Dialog>
      )}
    </div>
  );
}

function Listing(given: { talk: Talk; kept: boolean; begin: () => void; close: () => void }) {
  const { talk, kept, begin, close } = given;
  useShared(talk.changed);
  const grown = `${talk.id} ${talk.root.replies.length} ${talk.busy}`;
  const start = () => {
    close();
    begin();
  };
  return <Conversations kept={kept} current={talk.id} version={grown} onNew={start} onOpen={close} />;
}

/** The messages; what comes is followed as long as its end is in sight. */
function Turns({
  talk,
  editing,
  onEdit,
}: {
  talk: Talk;
  editing: Turn | null;
  onEdit: (turn: Turn | null) => void;
}) {
  const version = useShared(talk.changed);
  const place = useRef<HTMLDivElement>(null);
  const near = useRef(true);
  const { path } = talk;
  const last = path.at(-1);
  useLayoutEffect(() => {
    if (near.current) place.current?.scrollTo({ top: place.current.scrollHeight });
  }, [version, last?.key]);
  useEffect(() => void (near.current = true), [talk, path.length]);
  const watch = () => {
    const { current } = place;
    if (current) near.current = current.scrollHeight - current.scrollTop - current.clientHeight < NEAR;
  };
  const spoken = useRef<Talk | null>(null);
  if (talk.busy) spoken.current = talk;
  const ended = spoken.current === talk && last?.role === "assistant" ? chat.came : "";
  return (
    <div class="turns" ref={place} onScroll={watch} tabIndex={0} role="region" aria-label={chat.turns}>
      {talk.loading && <p class="loading">{texts.frame.loading}</p>}
      {!path.length && !talk.loading && (
        <div class="empty">
          <h1>{chat.title}</h1>
          <p>{chat.more}</p>
        </div>
      )}
      {path.length > 0 && <h1 class="hidden">{texts.views.chat}</h1>}
      <ol>
        {path.map((turn) => (
          <TurnShown key={turn.key} talk={talk} turn={turn} editing={editing === turn} onEdit={onEdit} />
        ))}
      </ol>
      <p class="hidden" role="status">
        {talk.busy ? chat.waiting : ended}
      </p>
    </div>
  );
}

interface Ways {
  choose: () => void;
  list: () => void;
  begin: () => void;
  edit: (turn: Turn) => void;
  say: () => void;
}

function useChatKeys(talk: Talk, ways: Ways): void {
  const reply = () => talk.path.findLast((one) => one.role === "assistant" && one.state !== "coming");
  const asked = () => talk.path.findLast((one) => one.role === "user");
  const voted = (value: 1 | -1) => {
    const of = reply();
    if (of?.id && about.value?.kept) vote(talk, of, value);
  };
  const beside = (step: number) => {
    const of = reply();
    const at = of?.parent?.replies.indexOf(of) ?? 0;
    if (of) talk.choose(of, at + step);
  };
  useKeys([
    { keys: "/", says: chat.keys.say, does: ways.say },
    { keys: "n", says: chat.keys.fresh, does: ways.begin },
    { keys: "l", says: chat.keys.list, does: ways.list },
    { keys: "s", says: chat.keys.settings, does: ways.choose },
    { keys: "e", says: chat.keys.edit, does: () => (asked() ? ways.edit(asked()!) : undefined) },
    { keys: "r", says: chat.keys.again, does: () => void (reply()?.parent && talk.answer(reply()!.parent!)) },
    { keys: "+", says: chat.keys.good, does: () => voted(1) },
    { keys: "-", says: chat.keys.bad, does: () => voted(-1) },
    { keys: "[", says: chat.keys.before, does: () => beside(-1) },
    { keys: "]", says: chat.keys.after, does: () => beside(1) },
  ]);
  useEffect(() => {
    const escape = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || !talk.busy || document.querySelector("dialog[open]")) return;
      talk.stop();
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [talk]);
}
