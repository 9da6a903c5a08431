/** What the server tells of runs, ratings, traffic and data; its words for figures stand as they come. */

export type State = "running" | "done" | "failed" | "stopped" | "killed";
export type Verdict = "" | "better" | "worse" | "undecided";

/** The step that is at work; step and total are of a training. */
export interface At {
  verb: string;
  name: string;
  step?: number;
  total?: number | null;
}

export interface Head {
  name: string;
  kind: "run" | "comparison";
  state: State;
  title: string;
  recipe: string | null;
  tiny: boolean;
  changed: number;
  seconds: number | null;
  said: string;
  at: At | null;
}

export interface Listed extends Head {
  report: boolean;
}

export interface Figure {
  model: string;
  against: string | null;
  task: string;
  on: string | null;
  name: string;
  unit: string;
  better: string;
  n: number;
  before: string;
  after: string;
  difference: string;
  interval: string;
  verdict: Verdict;
  image: string;
}

export interface Step {
  verb: string;
  name: string | null;
  model: string | null;
  against: string | null;
  seconds: number | null;
  reused: boolean | null;
  examples: number | null;
  tokens: number | null;
  steps: number | null;
}

export interface Claim {
  text: string;
  verdict: string;
  difference: string;
  interval: string;
}

export interface Run extends Head {
  report: string | null;
  source: string | null;
  command: string | null;
  seed: number | null;
  version: string | null;
  base: string | null;
  next: string[] | null;
  warnings: string[] | null;
  tally: string;
  claims: Claim[];
  steps: Step[];
  figures: Figure[];
  data: string[];
}

export interface Chart {
  title: string;
  last: string;
  image: string;
  wide: string | null;
  lines: { name: string; style: string }[];
}

export interface Curves {
  name: string;
  state: State;
  steps: { name: string; step: number; total: number | null; charts: Chart[] }[];
}

export interface Cell {
  after?: string;
  difference?: string;
  interval?: string;
  verdict?: Verdict;
}

export interface Comparison {
  name: string;
  title: string;
  advice: string[];
  model: string;
  data: { read: string; by: string };
  budget: string;
  seeds: number;
  failed: Record<string, string>;
  columns: { name: string; unit: string; better: string }[];
  methods: {
    name: string;
    best: boolean;
    dropped: string | null;
    said: string[];
    spent: { time: string; tokens: number };
    cells: Cell[];
  }[];
  plots: { title: string; image: string; front: string[] }[];
  report: string | null;
}

/** How often `first` is preferred to `second`. */
export interface Pair {
  first: string;
  second: string;
  comparisons: number;
  wins: number;
  ties: number;
  losses: number;
  n: number;
  value: number;
  low: number | null;
  high: number | null;
}

export interface Strength {
  model: string;
  points: number;
  low: number | null;
  high: number | null;
  n: number;
  wins: number;
  group: number;
}

export interface Agreement {
  kind: "preference" | "vote" | "scale" | "label" | "review";
  name: string;
  alpha: number | null;
  equal: number | null;
  units: number;
  people: number;
  judgements: number;
}

export interface Ratings {
  comparisons: number;
  messages: number;
  people: number;
  pairs: Pair[];
  strengths: Strength[];
  agreement: Agreement[];
}

export interface Mean {
  n: number;
  value: number;
  low: number | null;
  high: number | null;
}

export interface Window {
  start: number;
  end: number;
  turns: number;
  models: string[];
  length: Mean | null;
  refusals: Mean | null;
  cut: Mean | null;
  ratings: Mean | null;
}

export interface Traffic {
  turns: number;
  window_seconds: number;
  windows: Window[];
  reference: Window | null;
  drift: { divergence: number; threshold: number; expected: number; prompts: number; words: string[] } | null;
  alarms: string[];
  retrain: boolean;
}

export interface Sequence {
  part: string;
  number: number;
  of: number;
  texts: string[];
  weights: number[];
  length: number;
  trained: number;
}

export interface Example {
  number: number;
  id: string;
  values: Record<string, number | null | (number | null)[]>;
  left: string[];
  sequences: Sequence[];
}

export interface Examples {
  run: string;
  steps: string[];
  step: string;
  data: string | null;
  view: string | null;
  parts: string[];
  total: number;
  whole: boolean;
  examples: Example[];
}
