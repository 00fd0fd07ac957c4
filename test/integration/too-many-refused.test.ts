/** A broken deployment is not data: too many refused in a row halt their shard, on real servers, and the ways on go on. */
import { expect, test } from "vitest";

import { type Deployment, withDeployment } from "../support/harness.ts";
import { until } from "../support/until.ts";

const INPUT = "hostile.commands";
const LIMIT = { LOCKSTEP_QUARANTINE_RUN_MAX: "20" };
const at = Date.now() - 60_000;

function command(partition: number, fields: object) {
  const key = `a${partition}`;
  const value = JSON.stringify({ v: 1, key, do: "add", n: 1, at, ...fields });
  return { topic: INPUT, partition, key: Buffer.from(key), value: Buffer.from(value), headers: {}, timestampMs: at };
}

const many = (count: number, fields: object) => Array.from({ length: count }, () => command(1, fields));

test("the shard halts before the one too many, halts again when it is tried, and goes on with a higher limit; others do not notice", async () => {
  await withDeployment({ app: "hostile", workers: 1, env: LIMIT }, async (deployment) => {
    deployment.start("one");
    await deployment.untilRunning();
    // Two runs, with one between them that is taken.
    await deployment.send([...many(20, { do: "throw" }), command(1, { note: "between" }), ...many(25, { v: 2 })]);
    const halted = await deployment.untilEvent("halted");
    expect(halted).toMatchObject({ shard: 1, err: { code: "TOO_MANY_REFUSED" } });
    expect(JSON.stringify(halted["err"])).toContain("lockstep dlq list");
    await deployment.send([command(2, { note: "other shard" })]);
    await until(async () => (await notes(deployment)).length === 2, { what: "the other shard's record" });
    expect(await positionOf(deployment)).toBe("41");
    await deployment.kill("one");
    deployment.forget("one");

    deployment.start("two");
    await deployment.untilEvent("halted", { process: "two" });
    expect(await positionOf(deployment)).toBe("41");
    await deployment.kill("two");
    deployment.forget("two");

    deployment.start("three", { env: { LOCKSTEP_QUARANTINE_RUN_MAX: "100" } });
    await deployment.untilRunning();
    await deployment.send([command(1, { note: "behind" })]);
    await deployment.untilDrained();
    await deployment.stopAll();
    expect(await notes(deployment)).toEqual(["behind", "between", "other shard"]);
    const audit = await deployment.audit();
    expect(audit.findings).toEqual([]);
    expect(audit.figures).toMatchObject({ deadLetters: 45, rows: 3 });
  });
});

async function notes(deployment: Deployment): Promise<string[]> {
  const rows = await deployment.query<{ note: string }>("SELECT note FROM hostile.sums ORDER BY note");
  return rows.map(({ note }) => note);
}

async function positionOf(deployment: Deployment): Promise<unknown> {
  const rows = await deployment.query("SELECT positions ->> $1 AS position FROM lockstep.shard WHERE shard = 1", [
    INPUT,
  ]);
  return rows[0]?.["position"];
}
