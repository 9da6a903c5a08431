import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { IconButton } from "../parts/button";
import { remember, remembered, session, useShared } from "../shared";
import { texts } from "../texts";
import type { Talk } from "./talk";

const { chat } = texts;
const TALLEST = 240; // pixels

export type Heard = Pick<Talk, "id" | "changed" | "busy" | "returned" | "say" | "stop">;

/** Where one writes. What is typed is kept until it is sent, also over a reload. */
export function Composer({ talk, ready }: { talk: Heard; ready: boolean }) {
  const version = useShared(talk.changed);
  const field = useRef<HTMLTextAreaElement>(null);
  const draft = `draft.${talk.id}`;
  const [text, write] = useState(() => remembered(draft, session()) ?? "");
  const type = (typed: string) => {
    write(typed);
    remember(draft, typed || null, session());
  };
  useEffect(() => {
    if (talk.returned === null) return;
    const came = talk.returned;
    talk.returned = null;
    type(text.trim() ? `${came}\n\n${text}` : came);
  }, [version]);
  useLayoutEffect(() => {
    const { current } = field;
    if (!current) return;
    current.style.height = "auto";
    current.style.height = `${Math.min(current.scrollHeight + 2, TALLEST)}px`;
  }, [text]);
  useEffect(() => field.current?.focus(), [talk]);
  const [wanted, want] = useState(false); // sent before it was known which models there are
  const send = () => {
    if (!text.trim() || talk.busy) return;
    want(!ready);
    if (!ready) return;
    type("");
    void talk.say(text.trim());
  };
  useEffect(() => {
    if (wanted && ready) send();
  }, [wanted, ready]);
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label class="hidden" for="say">
        {chat.say}
      </label>
      <textarea
        id="say"
        ref={field}
        rows={1}
        placeholder={chat.say}
        value={text}
        onInput={(event) => type(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            send();
          }
          if (event.key === "Escape" && !talk.busy) event.currentTarget.blur();
        }}
      />
      {talk.busy ? (
        <IconButton icon="stop" says={chat.stop} look="primary" onClick={() => talk.stop()} />
      ) : (
        <IconButton
          icon="send"
          says={chat.send}
          look="primary"
          type="submit"
          disabled={!text.trim() || wanted}
        />
      )}
    </form>
  );
}
