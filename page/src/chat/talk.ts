import { about, stream, Trouble } from "../api";
import { Shared } from "../shared";
import { texts } from "../texts";
import { Opened } from "./opened";
import { judge, me, trees, type Chunk, type Judgement, type KeptTree } from "./served";
import { sampling, settings } from "./settings";
import { add, all, found, grown, path, planted, remove, said, take, thread, turn, type Turn } from "./tree";

const LOOK = 700; // milliseconds between looks at a reply that somebody else draws
const LOOKS = 40; // the next server ends within ten seconds what one before it left

/** A conversation: its messages as a tree, and the reply that is coming. It goes on while another view is
 * shown. Tells `changed` whenever there is something new to draw. */
export class Talk {
  readonly changed = new Shared(0);
  readonly root = turn("text", "");
  /** What was asked last and did not come, as it is shown until something is asked anew. */
  trouble: unknown = null;
  /** What was typed and did not reach the server: it goes back to where it was typed. */
  returned: string | null = null;
  loading = false;
  missing = false;
  private control: AbortController | null = null;
  private tools: unknown[] = [];
  private person: string | null = null;

  constructor(
    readonly id: string,
    private tag: string | null = id,
  ) {}

  get path(): Turn[] {
    return path(this.root);
  }

  /** Whether a reply to this page is coming. */
  get busy(): boolean {
    return this.control !== null;
  }

  tell(): void {
    this.changed.value += 1;
  }

  /** Say something at the end of what is shown. */
  async say(text: string): Promise<void> {
    const { system } = settings.value;
    if (!this.root.replies.length && system.trim()) add(this.root, turn("system", system.trim()));
    const asked = add(this.path.at(-1) ?? this.root, turn("user", text));
    if ((await this.answer(asked)) || asked.replies.length) return;
    remove(asked);
    if (this.path.every((one) => one.role === "system")) this.root.replies = [];
    this.returned = text;
    this.tell();
  }

  /** Say something else in the place of this: a branch. The same words are asked again. */
  async edit(of: Turn, text: string): Promise<void> {
    if (!of.parent) return;
    const same = of.parent.replies.findIndex((one) => one.role === of.role && one.content === text);
    if (same >= 0) of.parent.chosen = same;
    const edited = of.parent.replies[same] ?? add(of.parent, turn(of.role, text));
    if (of.role !== "system") return void (await this.answer(edited));
    const next = of.replies[of.chosen];
    if (!next || edited === of) return this.tell();
    const asked =
      edited.replies.find((one) => one.content === next.content) ?? add(edited, turn("user", next.content));
    await this.answer(asked);
  }

  /** Ask for one more reply to this message; whether it came. */
  async answer(asked: Turn): Promise<boolean> {
    this.stop();
    const control = new AbortController();
    this.control = control;
    this.trouble = null;
    const { model } = settings.value;
    const reply = add(asked, turn("assistant", "", { state: "coming", model }));
    this.tell();
    try {
      const body = this.body(asked);
      for await (const { choices } of stream<Chunk>("v1/chat/completions", body, control.signal)) {
        if (choices[0]) grown(reply, choices[0]);
        this.tell();
      }
      reply.state = "whole";
      return true;
    } catch (error) {
      await this.failed(reply, error, control);
      return false;
    } finally {
      if (this.control === control) this.control = null;
      this.tell();
    }
  }

  /** Want no more of what is coming. */
  stop(): void {
    this.control?.abort();
    this.control = null;
    this.tell();
  }

  choose(of: Turn, at: number): void {
    const { parent } = of;
    if (!parent?.replies[at]) return;
    parent.chosen = at;
    this.tell();
  }

  /** Read what is kept, and go on looking while a reply in it is coming. */
  async load(): Promise<void> {
    this.loading = true;
    this.trouble = null;
    this.tell();
    try {
      const kept = await this.read();
      planted(this.root, kept, this.person);
      this.tag = kept[0]?.tag ?? null;
      this.tools = kept[0]?.tools ?? [];
      this.loading = false;
      for (const one of all(this.root)) if (one.state === "coming") void this.look(one);
    } catch (error) {
      this.missing = error instanceof Trouble && error.status === 404;
      this.trouble = error;
    } finally {
      this.loading = false;
      this.tell();
    }
  }

  /** Keep what is thought of a reply. Shown at once, and taken back where it could not be kept. */
  async judge(of: Turn, judgement: Judgement): Promise<void> {
    if (!of.id) return;
    const before = of.judgements;
    const other = before.filter(
      (one) =>
        one.kind === "comment" || one.kind !== judgement.kind || (one.name ?? "") !== (judgement.name ?? ""),
    );
    const back = judgement.kind === "vote" && judgement.value === 0;
    of.judgements = back ? other : [...other, judgement];
    this.tell();
    try {
      await judge(of.id, [judgement]);
    } catch (error) {
      of.judgements = before;
      this.trouble = error;
      this.tell();
      throw error;
    }
  }

  /** After the server was away: what is kept of replies that it left in the middle. */
  async settle(): Promise<void> {
    if (this.trouble instanceof Trouble && this.trouble.away) this.trouble = null;
    this.tell();
    await Promise.all(all(this.root).map((one) => one.broken && one.id && this.look(one)));
  }

  private body(asked: Turn): unknown {
    const { value } = settings;
    const tools = this.tools.length ? { tools: this.tools } : {};
    const named = this.tag === null ? {} : { metadata: { conversation: this.tag } };
    const messages = thread(asked).map(said);
    return { model: value.model, messages, stream: true, ...sampling(value), ...named, ...tools };
  }

  private async failed(reply: Turn, error: unknown, control: AbortController): Promise<void> {
    const stopped = control.signal.aborted;
    reply.state = stopped ? "cancelled" : "cut";
    reply.broken = !stopped;
    if (!stopped) this.trouble = error;
    if (!reply.id && !reply.content) return stopped ? undefined : remove(reply);
    if (stopped && reply.id) void this.look(reply);
  }

  private async read(): Promise<KeptTree[]> {
    if (this.person === null) this.person = (await me()).id;
    return trees(this.id);
  }

  /** Take over what is kept of a reply until it has ended: what is sent back has to be what is kept. */
  private async look(reply: Turn): Promise<void> {
    if (!about.value?.kept) return;
    for (let at = 0; at < LOOKS; at += 1) {
      if (!all(this.root).includes(reply)) return;
      try {
        const kept = (await this.read()).map((one) => found(one.messages, reply.id ?? "")).find(Boolean);
        if (!kept) return;
        take(reply, kept, this.person);
        this.tell();
        if (reply.state !== "coming") return;
      } catch {
        if (reply.state === "coming") Object.assign(reply, { state: "cut", broken: true });
        return this.tell(); // the page says that the server is away, and settles this when it is back
      }
      await new Promise((go) => setTimeout(go, LOOK));
    }
  }
}

/** The conversations that are open. */
export const talks = new Opened((id) => new Talk(id));

/** Why a reply is not whole, in words; null where it is. */
export function ending(of: Turn): string | null {
  if (of.broken && of.state !== "whole") return texts.chat.cut;
  if (of.state === "cancelled") return texts.chat.stopped;
  if (of.finish === "length") return texts.chat.length;
  return null;
}
