import { useRef, useState } from "preact/hooks";
import { texts } from "../texts";
import type { Token } from "./served";

const { probabilities } = texts;
const GRADES = 5; // of the tint of a token: the less probable, the stronger

const probability = (logprob: number): number => Math.exp(Math.min(0, logprob));
const percent = (logprob: number): string => probabilities.percent(100 * probability(logprob));
const grade = (logprob: number): number =>
  Math.min(GRADES - 1, Math.floor((1 - probability(logprob)) * GRADES));
const visible = (text: string): string =>
  text.replace(/ /g, "\u00b7").replace(/\n/g, "\u23ce").replace(/\t/g, "\u21e5");

/** A reply token by token: how probable each was, and what else might have come. Arrow keys go along. Tokens
 * are no buttons, which are not broken where a token holds the end of a line. */
export function Probabilities({ tokens }: { tokens: readonly Token[] }) {
  const [at, look] = useState<number | null>(null);
  const list = useRef<HTMLDivElement>(null);
  const move = (to: number) => {
    const next = Math.max(0, Math.min(tokens.length - 1, to));
    look(next);
    list.current?.querySelectorAll<HTMLElement>(".token")[next]?.focus();
  };
  const keys: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const shown = at === null ? undefined : tokens[at];
  return (
    <div class="probabilities">
      <div
        class="tokens"
        ref={list}
        role="group"
        aria-label={probabilities.tokens}
        onKeyDown={(event) => {
          const step =
            event.key === "Home" ? -tokens.length : event.key === "End" ? tokens.length : keys[event.key];
          if (step === undefined) return;
          event.preventDefault();
          move((at ?? 0) + step);
        }}
      >
        {tokens.map((one, number) => (
          <span
            role="button"
            key={number}
            class={`token grade-${grade(one.logprob)}`}
            tabIndex={number === (at ?? 0) ? 0 : -1}
            aria-label={probabilities.token(one.token, percent(one.logprob))}
            aria-pressed={number === at}
            onMouseEnter={() => look(number)}
            onFocus={() => look(number)}
          >
            {one.token}
          </span>
        ))}
      </div>
      <div class="alternatives" role="status">
        {shown ? <Alternatives of={shown} /> : <p class="muted small-text">{probabilities.hint}</p>}
      </div>
    </div>
  );
}

function Alternatives({ of }: { of: Token }) {
  const there = of.top_logprobs.some((one) => one.token === of.token);
  const all = (there ? of.top_logprobs : [of, ...of.top_logprobs]).toSorted((a, b) => b.logprob - a.logprob);
  return (
    <ol>
      {all.map((one, number) => (
        <li key={number} class={one.token === of.token ? "drawn" : ""}>
          <code>{visible(one.token)}</code>
          <meter min={0} max={1} value={probability(one.logprob)} aria-hidden="true" />
          <span class="number">{percent(one.logprob)}</span>
        </li>
      ))}
    </ol>
  );
}
