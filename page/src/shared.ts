import { useEffect, useState } from "preact/hooks";

/** A value that several parts of the page read, and are drawn anew for when it changes. */
export class Shared<T> {
  private readers = new Set<(value: T) => void>();

  constructor(private held: T) {}

  get value(): T {
    return this.held;
  }

  set value(value: T) {
    this.held = value;
    for (const tell of this.readers) tell(value);
  }

  watch(tell: (value: T) => void): () => void {
    this.readers.add(tell);
    return () => void this.readers.delete(tell);
  }
}

export function useShared<T>(shared: Shared<T>): T {
  const [value, tell] = useState(() => shared.value);
  useEffect(() => {
    tell(() => shared.value);
    return shared.watch((fresh) => tell(() => fresh));
  }, [shared]);
  return value;
}

/** What a browser remembers; nothing is where its user forbids it. */
export function remembered(key: string, where: Storage | null = local()): string | null {
  try {
    return where?.getItem(`turnsmith.${key}`) ?? null;
  } catch {
    return null;
  }
}

export function remember(key: string, value: string | null, where: Storage | null = local()): void {
  try {
    if (value === null) where?.removeItem(`turnsmith.${key}`);
    else where?.setItem(`turnsmith.${key}`, value);
  } catch {
    // A browser that keeps nothing is one whose user wants that.
  }
}

function local(): Storage | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/** As long as the tab is open. */
export function session(): Storage | null {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}
