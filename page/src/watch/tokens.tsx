import { texts } from "../texts";
import type { Sequence } from "./served";

const { data } = texts;

type Mark = "none" | "part" | "full" | "minus";
const mark = (weight: number): Mark =>
  weight === 0 ? "none" : weight < 0 ? "minus" : weight >= 1 ? "full" : "part";
const written = (weight: number): string => String(Number(weight.toFixed(3)));

interface Stretch {
  weight: number;
  texts: string[];
}

/** Neighbours of one weight together. */
function stretches(of: Sequence): Stretch[] {
  const found: Stretch[] = [];
  of.texts.forEach((text, at) => {
    const weight = of.weights[at] ?? 0;
    const last = found.at(-1);
    if (last && last.weight === weight) last.texts.push(text);
    else found.push({ weight, texts: [text] });
  });
  return found;
}

/** A sequence token by token. What weighs is marked by a colour and a line below it, and said aloud. */
export function Tokens({ of, written: shown }: { of: Sequence; written: boolean }) {
  return (
    <p class="tokens" dir="auto">
      {stretches(of).map((one, at) => {
        const kind = mark(one.weight);
        return (
          <span
            key={at}
            class={`stretch ${kind}`}
            style={{ "--w": Math.min(1, Math.abs(one.weight)) }}
            title={data.weight(written(one.weight))}
          >
            {kind !== "none" && (
              <span class={shown ? "weight" : "hidden"}>{data.weight(written(one.weight))} </span>
            )}
            {one.texts.map((text, number) => (
              <span key={number} class="piece">
                <Ends text={text} />
              </span>
            ))}
          </span>
        );
      })}
    </p>
  );
}

/** A token's text with its line ends to be seen. */
function Ends({ text }: { text: string }) {
  if (!text.includes("\n")) return <>{text}</>;
  return (
    <>
      {text.split("\n").map((line, at) => (
        <>
          {at > 0 && <span class="end">{"\n"}</span>}
          {line}
        </>
      ))}
    </>
  );
}

/** What the marks mean. */
export function Legend() {
  return (
    <dl class="weights" aria-label={data.legend}>
      {(["full", "part", "none", "minus"] as const).map((kind) => (
        <div key={kind}>
          <dt>
            <span class={`stretch ${kind}`} style={{ "--w": kind === "part" ? 0.5 : 1 }} aria-hidden="true">
              {data.sample}
            </span>
          </dt>
          <dd>{data.marks[kind]}</dd>
        </div>
      ))}
    </dl>
  );
}
