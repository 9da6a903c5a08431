import { useEffect, useRef, useState } from "preact/hooks";
import { Planting } from "../annotate/plant";
import { called, consent, next, person, user, type Task } from "../annotate/tasks";
import { Work } from "../annotate/work";
import { Trouble } from "../api";
import { useKeys } from "../keys";
import { useLoaded } from "../loaded";
import { Icon } from "../parts/icon";
import { Switch } from "../parts/switch";
import { Banner, words } from "../parts/trouble";
import { useShared } from "../shared";
import { texts } from "../texts";

const { annotate, people } = texts;
const LOOK = 10_000; // milliseconds between two looks for something to do

/** A queue of things to do for who grows trees. */
export default function Annotate() {
  const who = useShared(user);
  return (
    <div class="view annotate">
      <header>
        <h1>{annotate.title}</h1>
        {!who && <p>{annotate.more}</p>}
      </header>
      {who ? <Queue key={who} who={who} /> : <Gate />}
    </div>
  );
}

function Gate() {
  const [name, type] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return (
    <form
      class="card stack gate"
      onSubmit={(event) => {
        event.preventDefault();
        called(name);
      }}
    >
      <label class="field">
        <span>{annotate.name}</span>
        <input
          type="text"
          ref={field}
          autocomplete="name"
          maxLength={200}
          value={name}
          onInput={(event) => type(event.currentTarget.value)}
        />
        <span class="muted small-text">{annotate.nameMore}</span>
      </label>
      <div class="row end">
        <button type="submit" class="primary" disabled={!name.trim()}>
          {annotate.begin}
        </button>
      </div>
    </form>
  );
}

function Queue({ who }: { who: string }) {
  const [turn, go] = useState(0);
  const [count, add] = useState(0);
  const [busy, work] = useState(false);
  const [refused, refuse] = useState<unknown>(null);
  const [said, say] = useState("");
  const [planting, plant] = useState(false);
  const { value, error, again } = useLoaded<{ task: Task | null; turn: number }>(
    async (signal) => ({ task: await next(who, signal), turn }),
    [who, turn],
  );
  const another = () => {
    refuse(null);
    go((one) => one + 1);
  };
  const done = async (deed: () => Promise<unknown>): Promise<boolean> => {
    work(true);
    try {
      await deed();
      add((one) => one + 1);
      say(annotate.kept);
      another();
      return true;
    } catch (failed) {
      refuse(failed);
      return false;
    } finally {
      work(false);
    }
  };
  useKeys([{ keys: "n", says: annotate.keys.plant, does: () => plant(true) }]);
  const idle = value !== null && value.task === null;
  useEffect(() => {
    if (!idle) return undefined;
    const timer = setInterval(() => document.hidden || again(), LOOK);
    return () => clearInterval(timer);
  }, [idle]);
  const coming = value === null || value.turn !== turn;
  return (
    <>
      <div class="row apart queue-head">
        <p class="row">
          <span class="badge">{annotate.as(who)}</span>
          <span class="muted small-text number">{annotate.done(count)}</span>
        </p>
        <p class="row">
          <button type="button" class="quiet small" onClick={() => called("")}>
            {annotate.other}
          </button>
          <button type="button" class="small" onClick={() => plant(true)}>
            <Icon name="plus" size={16} />
            {annotate.plant}
          </button>
        </p>
      </div>
      <p class="hidden" role="status">
        {said}
      </p>
      {error !== null && <Banner error={error} again={again} />}
      {refused !== null && <Refused error={refused} next={another} />}
      {value === null && error === null && <p class="loading">{texts.frame.loading}</p>}
      {idle && <Nothing again={again} />}
      {value?.task && (
        <section class="task stack" aria-busy={coming}>
          <Work
            key={`${value.turn} ${value.task.message} ${value.task.kind}`}
            task={value.task}
            who={who}
            busy={busy || coming || refused !== null}
            done={done}
            skip={another}
          />
        </section>
      )}
      <Consent who={who} />
      {planting && (
        <Planting
          who={who}
          onClose={() => plant(false)}
          onPlanted={() => {
            plant(false);
            say(annotate.planted);
          }}
        />
      )}
    </>
  );
}

/** What the server did not take: somebody was quicker, or it is one's own. What was done stays in sight. */
function Refused({ error, next }: { error: unknown; next: () => void }) {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => button.current?.focus(), []);
  if (error instanceof Trouble && error.away) return <Banner error={error} close={next} />;
  return (
    <div class="banner calm" role="alert">
      <Icon name="alert" />
      <p>
        {annotate.refused} {words(error)}
      </p>
      <button type="button" class="small" ref={button} onClick={next}>
        {annotate.next}
      </button>
    </div>
  );
}

function Nothing({ again }: { again: () => void }) {
  return (
    <div class="empty nothing">
      <Icon name="check" size={28} />
      <h2 class="display">{annotate.nothing}</h2>
      <p>{annotate.nothingMore}</p>
      <button type="button" onClick={again}>
        {annotate.look}
      </button>
    </div>
  );
}

/** Whether what this annotator writes may be trained on. */
function Consent({ who }: { who: string }) {
  const { value, again } = useLoaded((signal) => person(who, signal), [who]);
  const [wrong, fail] = useState<unknown>(null);
  const change = (on: boolean) => consent(who, on).then(again, fail);
  return (
    <footer class="consent">
      {wrong !== null && <Banner error={wrong} close={() => fail(null)} />}
      <Switch
        on={value?.consent === true}
        disabled={!value}
        onChange={(on) => void change(on)}
        label={people.allow}
        more={people.state(value?.consent ?? null)}
      />
    </footer>
  );
}
