import { useState } from "preact/hooks";
import { asking, give } from "../api";
import { useShared } from "../shared";
import { texts } from "../texts";
import { Dialog } from "./dialog";

/** Asks for a key where the server wants one. */
export function KeyPrompt() {
  const asked = useShared(asking);
  const [key, type] = useState("");
  if (!asked) return null;
  return (
    <Dialog title={texts.key.title} onClose={() => give(null)}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim()) give(key);
        }}
      >
        <p class="muted">{texts.key.more}</p>
        <label class="field">
          <span>{texts.key.label}</span>
          <input
            type="password"
            autocomplete="off"
            value={key}
            aria-invalid={asked.wrong}
            aria-describedby={asked.wrong ? "key-wrong" : undefined}
            onInput={(event) => type(event.currentTarget.value)}
          />
        </label>
        {asked.wrong && (
          <p id="key-wrong" class="wrong" role="alert">
            {texts.key.wrong}
          </p>
        )}
        <div class="row end">
          <button type="button" class="quiet" onClick={() => give(null)}>
            {texts.key.cancel}
          </button>
          <button type="submit" class="primary" disabled={!key.trim()}>
            {texts.key.give}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
