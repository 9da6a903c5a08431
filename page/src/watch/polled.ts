import { useEffect } from "preact/hooks";
import { useLoaded, type Loaded } from "../loaded";

const LATER = 10_000; // milliseconds after which it is tried again where it went wrong

/** Like useLoaded, asked for anew every so many milliseconds that `pause` gives, as long as somebody looks;
 * null: what is there will not change any more. */
export function usePolled<T>(
  load: (signal: AbortSignal) => Promise<T>,
  by: readonly unknown[],
  pause: (value: T) => number | null,
): Loaded<T> {
  const loaded = useLoaded(load, by);
  const { value, error, again } = loaded;
  const often = value === null ? null : pause(value);
  const wait = often !== null && error !== null ? LATER : often;
  useEffect(() => {
    if (wait === null) return;
    const timer = setInterval(() => document.hidden || again(), wait);
    return () => clearInterval(timer);
  }, [wait, again]);
  return loaded;
}
