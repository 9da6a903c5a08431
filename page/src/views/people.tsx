import { useState } from "preact/hooks";
import { about, json } from "../api";
import { me, type Person } from "../chat/served";
import { talks } from "../chat/talk";
import { useLoaded } from "../loaded";
import { Dialog } from "../parts/dialog";
import { Switch } from "../parts/switch";
import { Banner } from "../parts/trouble";
import { contests } from "../rate/contest";
import { useShared } from "../shared";
import { texts } from "../texts";

const { people } = texts;

interface Receipt {
  id: string;
  counts: Record<string, number>;
  files: string[];
  since: number;
}

/** What the server keeps of who looks at it, and what may be done with it. */
export default function People() {
  const told = useShared(about);
  return (
    <div class="view narrow">
      <header>
        <h1>{people.title}</h1>
        <p>{told?.kept ? people.more : people.unkept}</p>
      </header>
      {told?.kept && <Kept />}
    </div>
  );
}

function Kept() {
  const { value, error, again } = useLoaded<Person>((signal) => me(signal), []);
  const [receipt, hand] = useState<Receipt | null>(null);
  const [asked, ask] = useState(false);
  const [wrong, fail] = useState<unknown>(null);
  const consent = async (consent: boolean) => {
    try {
      await json("v1/people/me/consent", { method: "PUT", body: { consent } });
      fail(null);
    } catch (failed) {
      fail(failed);
    }
    again();
  };
  const forget = async () => {
    ask(false);
    try {
      hand(await json<Receipt>("v1/people/me", { method: "DELETE" }));
      talks.forget();
      contests.forget();
      fail(null);
      again();
    } catch (failed) {
      fail(failed);
    }
  };
  return (
    <>
      {error !== null && <Banner error={error} again={again} />}
      {wrong !== null && <Banner error={wrong} close={() => fail(null)} />}
      <section class="card stack" aria-labelledby="consent">
        <h2 id="consent">{people.consent}</h2>
        <Switch
          on={value?.consent === true}
          disabled={!value}
          onChange={(on) => void consent(on)}
          label={people.allow}
          more={people.state(value?.consent ?? null)}
        />
      </section>
      <section class="card stack" aria-labelledby="forget">
        <h2 id="forget">{people.forget}</h2>
        <p class="muted">{people.forgetMore}</p>
        <div class="row">
          <button type="button" class="danger" onClick={() => ask(true)}>
            {people.delete}
          </button>
        </div>
        {receipt && <Handed receipt={receipt} />}
      </section>
      {asked && (
        <Dialog title={people.sure} onClose={() => ask(false)}>
          <p>{people.sureMore}</p>
          <div class="row end">
            <button type="button" onClick={() => ask(false)}>
              {people.keep}
            </button>
            <button type="button" class="danger" onClick={() => void forget()}>
              {people.deleteAll}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

function Handed({ receipt }: { receipt: Receipt }) {
  return (
    <div class="receipt stack" role="status">
      <h3>{people.receipt}</h3>
      <p class="muted small-text">
        {people.receiptMore(new Date(receipt.since * 1000))} <code>{receipt.id}</code>
      </p>
      <div class="table">
        <table>
          <tbody>
            {Object.entries(receipt.counts).map(([name, count]) => (
              <tr key={name}>
                <th scope="row">{people.counted(name)}</th>
                <td class="number">{count}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="small-text">{receipt.files.length ? people.files : people.noFiles}</p>
      {receipt.files.length > 0 && (
        <ul class="files">
          {receipt.files.map((one) => (
            <li key={one}>
              <code>{one}</code>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
