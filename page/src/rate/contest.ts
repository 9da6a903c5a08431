import { json, stream } from "../api";
import { Opened } from "../chat/opened";
import { judge, me, trees, type Chunk, type KeptMessage } from "../chat/served";
import { sampling, settings } from "../chat/settings";
import { add, all, grown, path, planted, remove, said, thread, turn, type Turn } from "../chat/tree";
import { Shared } from "../shared";

/** What somebody thinks of replies to one message: the best first, equal ones together. */
export type Order = Turn[][];

/** A conversation in which each message gets several replies at once, which are then judged. What is said
 * next goes on from one of them. Tells `changed` whenever there is something new to draw. */
export class Contest {
  readonly changed = new Shared(0);
  readonly root = turn("text", "");
  trouble: unknown = null;
  /** What was typed and was not answered: it goes back to where it was typed. */
  returned: string | null = null;
  loading = false;
  /** Whether a judgement is on its way. */
  keeping = false;
  /** The models that are asked next, one for each reply. */
  draw: () => string[] = () => [];
  private control: AbortController | null = null;
  private orders = new Map<Turn, Order>();

  constructor(readonly id: string) {}

  /** What was asked, on the path that is shown. */
  get rounds(): Turn[] {
    return path(this.root).filter((one) => one.role === "user");
  }

  get busy(): boolean {
    return this.control !== null;
  }

  /** How the replies to a message were judged; null where they have not been. */
  order(asked: Turn): Order | null {
    return this.orders.get(asked) ?? null;
  }

  tell(): void {
    this.changed.value += 1;
  }

  async say(text: string): Promise<void> {
    const system = settings.value.system.trim();
    if (!this.root.replies.length && system) add(this.root, turn("system", system));
    const asked = add(path(this.root).at(-1) ?? this.root, turn("user", text));
    if (await this.answer(asked)) return;
    remove(asked);
    if (!this.rounds.length) this.root.replies = [];
    this.returned = text;
    this.tell();
  }

  stop(): void {
    this.control?.abort();
  }

  /** Let the conversation go on from this reply. */
  choose(reply: Turn): void {
    if (reply.parent) reply.parent.chosen = reply.parent.replies.indexOf(reply);
    this.tell();
  }

  /** Keep an order of replies to a message, and where all are equal whether that is good or bad; whether it
   * could be kept. Nothing is shown of the models before it is. */
  async rank(
    asked: Turn,
    order: Order,
    { blind, all = null }: { blind: boolean; all?: 1 | -1 | null },
  ): Promise<boolean> {
    this.keeping = true;
    this.trouble = null;
    this.tell();
    try {
      asked.id ??= await this.idOf(asked);
      const ids = order.map((place) => place.map((one) => one.id));
      await json(`v1/messages/${asked.id}/ranking`, { method: "PUT", body: { order: ids, blind } });
      for (const one of all === null ? [] : order.flat()) await this.vote(one, all as 1 | -1);
      this.orders.set(asked, order);
      const best = order[0]?.[0];
      if (best) this.choose(best);
      return true;
    } catch (error) {
      this.trouble = error;
      return false;
    } finally {
      this.keeping = false;
      this.tell();
    }
  }

  /** Read what is kept. Replies that are not whole cannot be compared, and are left out. */
  async load(): Promise<void> {
    this.loading = true;
    this.trouble = null;
    this.tell();
    try {
      const [{ id: person }, kept] = await Promise.all([me(), trees(this.id)]);
      planted(this.root, kept, person);
      const below = kept.flatMap((one) => one.messages.flatMap(every));
      for (const one of all(this.root))
        this.recall(
          one,
          below.find((other) => other.id === one.id)!,
          person,
        );
    } catch (error) {
      this.trouble = error;
    } finally {
      this.loading = false;
      this.tell();
    }
  }

  private async vote(reply: Turn, value: 1 | -1): Promise<void> {
    await judge(reply.id ?? "", [{ kind: "vote", value }]);
    reply.judgements = [{ kind: "vote", value }];
  }

  private recall(one: Turn, kept: KeptMessage, person: string): void {
    if (one.role !== "user") return;
    one.replies = one.replies.filter((reply) => reply.state === "whole");
    const order = kept.rankings.find((ranking) => ranking.person === person)?.order;
    const found = order
      ?.map((ids) => one.replies.filter((reply) => ids.includes(reply.id ?? "")))
      .filter((place) => place.length);
    if (found?.length) this.orders.set(one, found);
    const on = one.replies.find((reply) => reply.replies.length) ?? found?.[0]?.[0];
    one.chosen = Math.max(0, on ? one.replies.indexOf(on) : 0);
  }

  /** Ask for the replies to a message, of all models at once; whether all came. */
  private async answer(asked: Turn): Promise<boolean> {
    const control = new AbortController();
    this.control = control;
    this.trouble = null;
    const models = shuffled(this.draw());
    const replies = models.map((model) => add(asked, turn("assistant", "", { state: "coming", model })));
    this.tell();
    try {
      const each = [...new Set(models)].map((model) => replies.filter((one) => one.model === model));
      await Promise.all(each.map((of) => this.stream(asked, of, control.signal)));
      return true;
    } catch (error) {
      if (!control.signal.aborted) this.trouble = error;
      control.abort();
      return false;
    } finally {
      this.control = null;
      this.tell();
    }
  }

  /** The replies of one model. */
  private async stream(asked: Turn, replies: Turn[], signal: AbortSignal): Promise<void> {
    const body = {
      model: replies[0]?.model,
      messages: thread(asked).map(said),
      n: replies.length,
      stream: true,
      metadata: { conversation: this.id },
      ...sampling({ ...settings.value, probabilities: false }),
    };
    for await (const { choices } of stream<Chunk>("v1/chat/completions", body, signal)) {
      for (const one of choices) {
        const reply = replies[one.index];
        if (reply) grown(reply, one);
      }
      this.tell();
    }
    for (const one of replies) one.state = "whole";
    this.tell();
  }

  /** The id of what was asked, which only the store knows: it is what the replies answer. */
  private async idOf(asked: Turn): Promise<string | null> {
    const ids = asked.replies.map((one) => one.id);
    const kept = (await trees(this.id)).flatMap((one) => one.messages.flatMap(every));
    return kept.find((one) => one.replies.some((reply) => ids.includes(reply.id)))?.id ?? null;
  }
}

const every = (of: KeptMessage): KeptMessage[] => [of, ...of.replies.flatMap(every)];

/** In an order that nobody can tell, so that a model is not known by its side. */
export function shuffled<T>(given: readonly T[]): T[] {
  const drawn = given.map((one) => ({ one, by: crypto.getRandomValues(new Uint32Array(1))[0] ?? 0 }));
  return drawn.sort((a, b) => a.by - b.by).map(({ one }) => one);
}

/** The contests that are open. */
export const contests = new Opened((id) => new Contest(id));
