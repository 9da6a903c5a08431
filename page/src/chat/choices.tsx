import { useState } from "preact/hooks";
import { Dialog } from "../parts/dialog";
import { Switch } from "../parts/switch";
import { useShared } from "../shared";
import { texts } from "../texts";
import { BOUNDS, set, settings, usual, type Numbered } from "./settings";

const { choices } = texts;
const NUMBERED = Object.keys(BOUNDS) as Numbered[];

/** How replies are asked for. */
export function Choices({ begun, onClose }: { begun: boolean; onClose: () => void }) {
  const now = useShared(settings);
  const [turn, anew] = useState(0);
  return (
    <Dialog title={choices.title} side onClose={onClose}>
      <label class="field">
        <span>{choices.system}</span>
        <textarea
          rows={5}
          value={now.system}
          onInput={(event) => set({ system: event.currentTarget.value })}
        />
        <span class="muted small-text">{begun ? choices.systemBegun : choices.systemMore}</span>
      </label>
      {NUMBERED.map((name) => (
        <Numeric key={`${name}-${turn}`} name={name} />
      ))}
      <Switch
        on={now.probabilities}
        onChange={(probabilities) => set({ probabilities })}
        label={choices.probabilities}
        more={choices.probabilitiesMore}
      />
      <div class="row end">
        <button
          type="button"
          onClick={() => {
            set({ ...usual, model: now.model });
            anew(turn + 1);
          }}
        >
          {choices.usual}
        </button>
      </div>
    </Dialog>
  );
}

function Numeric({ name }: { name: Numbered }) {
  const value = settings.value[name];
  const [typed, type] = useState(value === null ? "" : String(value));
  const { min, max, step } = BOUNDS[name];
  const number = Number(typed);
  const whole = step !== 1 || Number.isInteger(number);
  const wrong = typed !== "" && !(number >= min && number <= max && whole);
  const told = `${name}-told`;
  return (
    <label class="field">
      <span>{choices[name]}</span>
      <input
        type="text"
        inputMode={step === 1 ? "numeric" : "decimal"}
        value={typed}
        placeholder={choices.server}
        aria-invalid={wrong}
        aria-describedby={told}
        onInput={(event) => {
          const given = event.currentTarget.value.trim().replace(",", ".");
          type(given);
          const fits = given !== "" && Number(given) >= min && Number(given) <= max;
          set({ [name]: fits && (step !== 1 || Number.isInteger(Number(given))) ? Number(given) : null });
        }}
      />
      <span id={told} class={wrong ? "wrong small-text" : "muted small-text"}>
        {wrong ? choices.bounds(min, max) : choices.told[name]}
      </span>
    </label>
  );
}
