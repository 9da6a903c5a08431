import { useState } from "preact/hooks";
import { Dialog } from "../parts/dialog";
import { Banner } from "../parts/trouble";
import { texts } from "../texts";
import { plant } from "./tasks";

const { annotate } = texts;

/** Begins a conversation that people are asked to grow. */
export function Planting({
  who,
  onClose,
  onPlanted,
}: {
  who: string;
  onClose: () => void;
  onPlanted: () => void;
}) {
  const [text, write] = useState("");
  const [language, speak] = useState(() => navigator.language.slice(0, 2).toLowerCase());
  const [wrong, fail] = useState<unknown>(null);
  const [busy, work] = useState(false);
  const send = async () => {
    work(true);
    try {
      await plant(who, text.trim(), language.trim());
      onPlanted();
    } catch (error) {
      fail(error);
      work(false);
    }
  };
  return (
    <Dialog title={annotate.plant} onClose={onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
      >
        <p class="muted">{annotate.plantMore}</p>
        {wrong !== null && <Banner error={wrong} close={() => fail(null)} />}
        <label class="field">
          <span>{annotate.plantText}</span>
          <textarea rows={5} value={text} onInput={(event) => write(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>{annotate.language}</span>
          <input
            type="text"
            class="language"
            maxLength={8}
            value={language}
            onInput={(event) => speak(event.currentTarget.value)}
          />
          <span class="muted small-text">{annotate.languageMore}</span>
        </label>
        <div class="row end">
          <button type="button" class="quiet" onClick={onClose}>
            {annotate.cancel}
          </button>
          <button type="submit" class="primary" disabled={busy || !text.trim()}>
            {annotate.send}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
