import { remember, remembered, Shared } from "./shared";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const found = THEMES.find((one) => one === remembered("theme"));
export const theme = new Shared<Theme>(found ?? "system");

/** Take on a theme; `system` is what the machine prefers. */
export function wear(chosen: Theme): void {
  theme.value = chosen;
  remember("theme", chosen === "system" ? null : chosen);
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

wear(theme.value);
