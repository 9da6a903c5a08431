import { useCallback, useEffect, useState } from "preact/hooks";
import { back } from "./away";

/** Something that is on its way, there, or did not come. `again` asks for it once more. */
export interface Loaded<T> {
  value: T | null;
  error: unknown;
  again: () => void;
}

/** What `load` gives, asked for anew when one of `by` changes. An answer that comes too late is dropped.
 * What did not come is asked for again when the server is back. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, by: readonly unknown[]): Loaded<T> {
  const [found, keep] = useState<{ value: T | null; error: unknown }>({ value: null, error: null });
  const [turn, next] = useState(0);
  const again = useCallback(() => next((one) => one + 1), []);
  useEffect(() => {
    const control = new AbortController();
    load(control.signal).then(
      (value) => control.signal.aborted || keep({ value, error: null }),
      (error: unknown) => control.signal.aborted || keep((before) => ({ value: before.value, error })),
    );
    return () => control.abort();
  }, [turn, ...by]);
  useEffect(() => (found.error === null ? undefined : back.watch(again)), [found.error]);
  return { ...found, again };
}
