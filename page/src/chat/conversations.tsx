import { useEffect, useState } from "preact/hooks";
import { back } from "../away";
import { Icon } from "../parts/icon";
import { Banner } from "../parts/trouble";
import { link } from "../place";
import { useShared } from "../shared";
import { texts } from "../texts";
import { conversations, PAGE, type Listed } from "./served";

const { chat } = texts;

interface Given {
  kept: boolean;
  current: string;
  version: unknown;
  onNew: () => void;
  onOpen: () => void;
}

/** One's own conversations, the newest first. version: changes when there may be a new one. */
export function Conversations({ kept, current, version, onNew, onOpen }: Given) {
  const [listed, list] = useState<Listed[]>([]);
  const [error, fail] = useState<unknown>(null);
  const [more, tell] = useState(false);
  const times = useShared(back);
  const load = (before: number | null, signal: AbortSignal) =>
    conversations(before, signal).then(
      (found) => {
        list((there) => merged(before === null ? [] : there, found));
        tell(found.length === PAGE);
        fail(null);
      },
      (wrong: unknown) => signal.aborted || fail(wrong),
    );
  useEffect(() => {
    if (!kept) return;
    const control = new AbortController();
    void load(null, control.signal);
    return () => control.abort();
  }, [kept, version, times]);
  const last = listed.at(-1);
  return (
    <div class="conversations">
      <button type="button" onClick={onNew}>
        <Icon name="plus" size={16} />
        {chat.fresh}
      </button>
      {!kept && <p class="muted small-text">{chat.unkept}</p>}
      {error !== null && <Banner error={error} again={() => void load(null, new AbortController().signal)} />}
      {kept && !listed.length && error === null && <p class="muted small-text">{chat.none}</p>}
      <ul onClick={onOpen}>
        {listed.map((one) => (
          <li key={one.id}>
            <a href={link("chat", named(one))} aria-current={named(one) === current ? "true" : undefined}>
              <span>{one.opening || chat.silent}</span>
              <time dateTime={new Date(one.since * 1000).toISOString()}>
                {chat.when(new Date(one.since * 1000))}
              </time>
            </a>
          </li>
        ))}
      </ul>
      {more && last && (
        <button
          type="button"
          class="quiet small"
          onClick={() => void load(last.since, new AbortController().signal)}
        >
          {chat.older}
        </button>
      )}
    </div>
  );
}

const named = (one: Listed): string => one.tag ?? one.id;

// Trees of one conversation have its tag; those that people grow are no conversations.
function merged(there: Listed[], found: Listed[]): Listed[] {
  const all = [...there, ...found.filter((one) => one.state === null)];
  return all.filter((one, at) => all.findIndex((other) => named(other) === named(one)) === at);
}
