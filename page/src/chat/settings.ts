import { remember, remembered, Shared } from "../shared";

/** How replies are asked for. Null is what the server does where it is not told. */
export interface Settings {
  model: string | null;
  system: string;
  temperature: number | null;
  top_p: number | null;
  max_tokens: number | null;
  seed: number | null;
  probabilities: boolean;
}

export const usual: Settings = {
  model: null,
  system: "",
  temperature: null,
  top_p: null,
  max_tokens: null,
  seed: null,
  probabilities: false,
};

/** What may be said of each number: its least, its most, and its step. */
export const BOUNDS = {
  temperature: { min: 0, max: 2, step: 0.05 },
  top_p: { min: 0.01, max: 1, step: 0.01 },
  max_tokens: { min: 1, max: 32768, step: 1 },
  seed: { min: 0, max: 2 ** 31 - 1, step: 1 },
} as const;
export type Numbered = keyof typeof BOUNDS;

export const settings = new Shared<Settings>({ ...usual, ...before() });

export function set(changed: Partial<Settings>): void {
  settings.value = { ...settings.value, ...changed };
  remember("settings", JSON.stringify(settings.value));
}

function before(): Partial<Settings> {
  try {
    return JSON.parse(remembered("settings") ?? "{}") as Partial<Settings>;
  } catch {
    return {};
  }
}

/** Of a request: how many of the most probable tokens are asked for. */
const BEST = 5;

/** What a request says of how its reply is drawn. */
export function sampling(of: Settings): Record<string, unknown> {
  const { temperature, top_p, max_tokens, seed } = of;
  const given = Object.entries({ temperature, top_p, max_tokens, seed }).filter(
    ([, value]) => value !== null,
  );
  const told = of.probabilities ? { logprobs: true, top_logprobs: BEST } : {};
  return { ...Object.fromEntries(given), ...told };
}
