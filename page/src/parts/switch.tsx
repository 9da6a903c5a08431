import { useId } from "preact/hooks";

interface Given {
  on: boolean;
  onChange: (on: boolean) => void;
  label: string;
  more?: string;
  disabled?: boolean;
}

/** Something that is on or off. */
export function Switch({ on, onChange, label, more, disabled = false }: Given) {
  const told = useId();
  return (
    <div class="switch">
      <label>
        <input
          type="checkbox"
          role="switch"
          checked={on}
          disabled={disabled}
          aria-describedby={more ? told : undefined}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
        <span>{label}</span>
      </label>
      {more && (
        <p class="muted small-text" id={told}>
          {more}
        </p>
      )}
    </div>
  );
}
