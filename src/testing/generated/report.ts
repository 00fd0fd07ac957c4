/** What tests made from a machine have covered, as data and as a table. */

export interface Rate {
  readonly covered: number;
  readonly all: number;
}

export interface MachineCoverage {
  readonly app: string;
  readonly actorType: string;
  /** Of the actors that the paths lead through. */
  readonly keys: readonly string[];
  readonly states: Rate;
  readonly transitions: Rate;
  /** Guards that were true, and that were false, at least once. */
  readonly guardsTaken: Rate;
  readonly guardsNotTaken: Rate;
  /** States and transitions by name; a test fails for each. */
  readonly uncovered: readonly string[];
  /** Guards of which only one outcome was seen, or none. */
  readonly guardsOneWay: readonly string[];
  /** Events, by where they are from. */
  readonly drawn: number;
  readonly examples: number;
  readonly told: number;
  readonly paths: number;
  /** Paths that were found and left out; `isMoreBeyond`: further ones were not looked for. */
  readonly cut: number;
  readonly isMoreBeyond: boolean;
  /** Paths with an event that the host set aside. */
  readonly refused: number;
  readonly steps: number;
  readonly replays: number;
  /** Runs with a crash, of so many places where one could be. */
  readonly crashes: number;
  readonly places: number;
  /** The same with the examples, through the app as a whole. */
  readonly appCrashes: number;
  readonly appPlaces: number;
  /** Why events could not be drawn, and the like; a sentence each. */
  readonly notes: readonly string[];
}

const COLUMNS: readonly (readonly [title: string, of: (one: MachineCoverage) => string])[] = [
  ["machine", ({ app, actorType }) => `${app} ${actorType}`],
  ["states", ({ states }) => rate(states)],
  ["transitions", ({ transitions }) => rate(transitions)],
  ["guards true", ({ guardsTaken }) => rate(guardsTaken)],
  ["false", ({ guardsNotTaken }) => rate(guardsNotTaken)],
  ["events", ({ drawn, examples, told }) => `${drawn}+${examples}+${told}`],
  ["paths", ({ paths }) => number(paths)],
  ["cut", ({ cut, isMoreBeyond }) => `${number(cut)}${isMoreBeyond ? "+" : ""}`],
  ["refused", ({ refused }) => number(refused)],
  ["steps", ({ steps }) => number(steps)],
  ["replays", ({ replays }) => number(replays)],
  ["crashes", ({ crashes, places }) => `${number(crashes)} of ${number(places)}`],
  ["in the app", ({ appCrashes, appPlaces }) => `${number(appCrashes)} of ${number(appPlaces)}`],
];

/** A table for people: a line for each machine, and below it what was not covered. Events are drawn + examples + told. */
export function coverageTable(coverage: readonly MachineCoverage[]): string {
  const rows = [COLUMNS.map(([title]) => title), ...coverage.map((one) => COLUMNS.map(([, of]) => of(one)))];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  ");
  const remarks = coverage.flatMap(({ app, actorType, uncovered, guardsOneWay, notes }) =>
    [...uncovered.map((name) => `${name} is not covered`), ...guardsOneWay, ...notes].map(
      (remark) => `${app} ${actorType}: ${remark}`,
    ),
  );
  return [...rows.map(line), ...remarks].join("\n");
}

function rate({ covered, all }: Rate): string {
  return `${covered}/${all}`;
}

function number(value: number): string {
  return value.toLocaleString("en");
}
