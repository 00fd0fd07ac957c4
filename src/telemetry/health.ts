/**
 * Health as Kubernetes asks for it: named checks, each fine or failed with a reason, and the endpoints that put them together.
 *
 *   /livez     only what a restart cures: workers that no longer respond
 *   /readyz    may be counted on: everything below; 503 as soon as draining begins
 *   /startupz  has come up once: joined, and every shard it was given has been restored; stays fine from then on
 *   /healthz   the old name of /readyz
 *
 * `?verbose` lists every check as `[+]name ok` or `[-]name failed: reason`, `?exclude=name` leaves one out, `/readyz/<name>` asks for
 * one alone. 200 or 503; the status code is what counts.
 */

export interface Check {
  readonly name: string;
  /** @returns why it fails, a sentence without period; null when it is fine. Never rejects, and answers within a few seconds */
  readonly run: () => string | null | Promise<string | null>;
}

export type Endpoint = "livez" | "readyz" | "startupz";

export type Checks = Readonly<Record<Endpoint, readonly Check[]>>;

export interface HealthAnswer {
  readonly status: 200 | 404 | 503;
  readonly body: string;
}

/**
 * @param only    one check's name, as in `/readyz/kafka`
 * @param exclude checks to leave out
 */
export async function answerHealth(
  endpoint: Endpoint,
  checks: readonly Check[],
  options: { verbose: boolean; only?: string | undefined; exclude?: readonly string[] },
): Promise<HealthAnswer> {
  const { verbose, only, exclude = [] } = options;
  const names = checks.map(({ name }) => name);
  const unknown = [...(only === undefined ? [] : [only]), ...exclude].filter((name) => !names.includes(name));
  if (unknown.length > 0)
    return { status: 404, body: `${endpoint} has no check ${unknown.join(", ")}; it has ${names.join(", ")}\n` };
  const wanted = checks.filter(({ name }) => (only === undefined || name === only) && !exclude.includes(name));
  const results = await Promise.all(wanted.map(async ({ name, run }) => ({ name, why: await run() })));
  const failed = results.some(({ why }) => why !== null);
  const status = failed ? 503 : 200;
  if (!verbose && !failed) return { status, body: "ok\n" };
  const lines = results.map(({ name, why }) => (why === null ? `[+]${name} ok` : `[-]${name} failed: ${why}`));
  const left = exclude.map((name) => `[+]${name} excluded: ok`);
  return { status, body: `${[...lines, ...left, `${endpoint} check ${failed ? "failed" : "passed"}`].join("\n")}\n` };
}

/** A check that is asked for at most once in `everyMs`, and not again while it is under way. */
export function sparing(check: Check, everyMs: number, nowMs: () => number): Check {
  let answer: Promise<string | null> | null = null;
  let askedMs = 0;
  let settled = true;
  return {
    name: check.name,
    run: () => {
      const now = nowMs();
      if (answer !== null && (!settled || now - askedMs < everyMs)) return answer;
      askedMs = now;
      settled = false;
      answer = Promise.resolve(check.run()).finally(() => {
        settled = true;
      });
      return answer;
    },
  };
}

/** A list of checks that, once all of them were fine, is never asked again. */
export function latched(checks: readonly Check[]): Check[] {
  const passed = new Set<string>();
  return checks.map(({ name, run }) => ({
    name,
    run: async () => {
      if (passed.size === checks.length) return null;
      const why = await run();
      if (why === null) passed.add(name);
      else passed.delete(name);
      return why;
    },
  }));
}
