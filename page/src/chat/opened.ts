interface Kept {
  readonly id: string;
  load(): Promise<void>;
  stop(): void;
}

/** What is open on this page, by its id: it goes on while another view is shown. */
export class Opened<T extends Kept> {
  private readonly all = new Map<string, T>();

  constructor(private readonly make: (id: string) => T) {}

  /** One in which nothing has been said. */
  fresh(): T {
    return this.put(crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint32Array(4))].join("-"));
  }

  /** The one of this id, which is read where it is not here. */
  of(id: string): T {
    const here = this.all.get(id);
    if (here) return here;
    const made = this.put(id);
    void made.load();
    return made;
  }

  /** Let go of all: they were deleted. */
  forget(): void {
    for (const one of this.all.values()) one.stop();
    this.all.clear();
  }

  private put(id: string): T {
    const made = this.make(id);
    this.all.set(id, made);
    return made;
  }
}
