import type { ButtonHTMLAttributes } from "preact";
import { Icon, type IconName } from "./icon";

interface Given extends ButtonHTMLAttributes<HTMLButtonElement> {
  icon: IconName;
  says: string;
  look?: string;
  small?: boolean;
  size?: number;
}

/** A button with an icon alone. says: its name, also shown where a pointer rests. look: its classes. */
export function IconButton({ icon, says, look = "quiet", small, size, ...given }: Given) {
  const looks = `icon-only ${look}${small ? " small" : ""}`;
  return (
    <button type="button" class={looks} aria-label={says} title={says} {...given}>
      <Icon name={icon} size={size ?? (small ? 16 : undefined)} />
    </button>
  );
}
