import { Markdown } from "../parts/markdown";
import { texts } from "../texts";
import type { Turn } from "../chat/tree";

const { chat } = texts;

/** What a reply says, as far as it has come. */
export function Reply({ turn }: { turn: Turn }) {
  const coming = turn.state === "coming";
  return (
    <div class={turn.flagged ? "said flagged" : "said"}>
      {turn.content ? <Markdown text={turn.content} /> : coming && <p class="waiting">{chat.waiting}</p>}
      {!turn.content && !coming && <p class="muted">{chat.nothing}</p>}
    </div>
  );
}

interface Line {
  id: string;
  role: string;
  who: string;
  content: string;
}

/** Messages as they followed each other. The user's stand on the right. */
export function Lines({ of }: { of: readonly Line[] }) {
  return (
    <>
      {of.map((one) => (
        <li key={one.id} class={`turn ${one.role}`}>
          <article aria-label={one.who}>
            {one.role !== "user" && <p class="who">{one.who}</p>}
            <div class="said">{one.role === "assistant" ? <Markdown text={one.content} /> : one.content}</div>
          </article>
        </li>
      ))}
    </>
  );
}
