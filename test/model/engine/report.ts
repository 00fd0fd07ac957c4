/**
 * Runs of a model as tests: one a run, each with its figures in the results' `meta`, and a table of all when they are done.
 *
 * TEST_TRACES=1 prints the trace of each mutant too.
 */
import Table from "cli-table3";
import { afterAll, describe, expect, test } from "vitest";

import { type Exploration, explore, type Model } from "./explore.ts";
import type { Run } from "./runs.ts";

export interface RunFigures {
  readonly model: string;
  readonly run: string;
  readonly states: number;
  readonly steps: number;
  readonly seconds: number;
  /** States in which all is done. */
  readonly ends: number;
  /** Of a mutant: the property that found it. */
  readonly foundBy: string | null;
  readonly trace: readonly string[];
}

declare module "vitest" {
  interface TaskMeta {
    modelRun?: RunFigures;
  }
}

export interface ModelSuite<R> {
  readonly model: string;
  readonly make: (rules: Partial<R>) => Model;
  readonly sound?: readonly Run<R>[];
  readonly mutants?: readonly Run<R>[];
  /** Steps that the sound runs must have taken between them. */
  readonly covers?: readonly string[];
  /** Steps that none of the sound runs may take. */
  readonly never?: readonly string[];
}

export function describeRuns<R>({
  model,
  make,
  sound = [],
  mutants = [],
  covers = [],
  never = [],
}: ModelSuite<R>): void {
  const taken = new Set<string>();
  const done: (RunFigures & { text: string })[] = [];
  const run = (one: Run<R>, task: { meta: { modelRun?: RunFigures } }): Exploration => {
    const found = explore(make(one.rules));
    const { states, steps, seconds, ends, breach } = found;
    const foundBy = breach?.property ?? null;
    const figures = { model, run: one.name, states, steps, seconds, ends, foundBy, trace: breach?.trace ?? [] };
    task.meta.modelRun = figures;
    done.push({ ...figures, text: breach?.text ?? "holds" });
    return found;
  };

  describe(`model of ${model}`, () => {
    test.for(sound)("holds: $name", (one, { task }) => {
      const { breach, complete, ends, taken: steps } = run(one, task);
      for (const text of steps) taken.add(text);
      expect(breach?.text ?? "holds", breach?.trace.join("\n")).toBe("holds");
      expect(never.filter((text) => steps.has(text))).toEqual([]);
      expect(complete).toBe(true);
      expect(ends).toBeGreaterThan(0);
    });

    test.runIf(covers.length > 0)("every kind of step was taken", () => {
      expect(covers.filter((text) => !taken.has(text))).toEqual([]);
    });

    test.for(mutants)("finds: $name", (one, { task }) => {
      const { breach } = run(one, task);
      expect(breach, "the mutant is not found").not.toBeNull();
      expect(one.foundBy, `${breach!.text}\n${breach!.trace.join("\n")}`).toContain(breach!.property);
      expect(breach!.trace.length).toBeGreaterThan(0);
    });
  });

  afterAll(() => {
    console.log(`${tableOf(model, done)}${process.env["TEST_TRACES"] ? `\n${done.map(traceOf).join("\n")}` : ""}`);
  });
}

function tableOf(model: string, done: readonly (RunFigures & { text: string })[]): string {
  const table = new Table({
    head: [`model of ${model}`, "states", "steps", "seconds", "result", "trace"],
    colAligns: ["left", "right", "right", "right", "left", "right"],
    style: { head: [], border: [], compact: true },
  });
  const total = { states: 0, steps: 0, seconds: 0 };
  for (const { run, states, steps, seconds, text, trace } of done) {
    total.states += states;
    total.steps += steps;
    total.seconds += seconds;
    table.push([run, states, steps, seconds.toFixed(1), text, trace.length === 0 ? "" : trace.length]);
  }
  table.push([`${done.length} runs`, total.states, total.steps, total.seconds.toFixed(1), "", ""]);
  return table.toString();
}

function traceOf({ run, text, trace }: RunFigures & { text: string }): string {
  return [`${run}: ${text}`, ...trace.map((step, n) => `  ${n + 1}. ${step}`)].join("\n");
}
