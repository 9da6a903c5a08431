import { useEffect } from "preact/hooks";
import { useLoaded, type Loaded } from "../loaded";

/** Like useLoaded, asked for anew every so many milliseconds that `pause` gives, as long as somebody looks;
 * null: what is there will not change any more. */
export function usePolled<T>(
  load: (signal: AbortSignal) => Promise<T>,
  by: readonly unknown[],
  pause: (value: T) => number | null,
): Loaded<T> {
  const loaded = useLoaded(load, by);
  const { value, error, again } = loaded;
  const wait = value === null || error !== null ? null : pause(value);
  useEffect(() => {
    if (wait === null) return;
    const timer = setInterval(() => document.hidden || again(), wait);
    return () => clearInterval(timer);
  }, [wait, again]);
  return loaded;
}
