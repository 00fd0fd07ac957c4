/**
 * Carries out one fault, and looks whether it hit: what nobody noticed is not counted.
 *
 *   kill, relayKill    the kernel says SIGKILL ended it, and others took over what it held
 *   shortPause         the kernel says it stood still, for less than the session time-out
 *   longPause          others took over what it held, while it still stood still
 *   brokerKill         the process of one broker of three is another than before; so for Postgres
 *   ...Cut             connections were open, and were reset
 *   ...Silent          bytes were swallowed, in one direction; then the connections were reset
 *   addAndStop         three more took part; three of all drained and ended with 0
 *   addAndKill         three more took part; three of all were killed, and others took over what they held
 */
import { mulberry32 } from "../../src/cli/chaos.ts";
import { systemClock } from "../../src/clock.ts";
import type { Stack } from "../../src/stack/index.ts";
import { GaveUp, type Instance, type Instances } from "./instances.ts";
import type { Line } from "./line.ts";
import { lacking } from "./replicas.ts";
import type { Fault } from "./schedule.ts";

/** So many are added, and so many of all taken away. */
const ADDED = 3;

export interface FaultBed {
  readonly instances: Instances;
  readonly stack: Stack;
}

export interface Outcome {
  /** In words, for the log. */
  readonly seen: string;
  /** It had the effect that its kind is named for. */
  readonly hit: boolean;
}

/** @throws {Error} what must follow from it did not come: that is a defect, not a fault */
export async function carryOut(fault: Fault, { instances, stack }: FaultBed): Promise<Outcome> {
  const { kind, lot, ms } = fault;
  switch (kind) {
    case "kill": {
      const target = await instances.choose(lot, "a process that runs shards", ({ shards }) => shards.size > 0);
      return killed(instances, target);
    }
    case "relayKill": {
      const target = await instances.choose(lot, "a process whose relay works", ({ relay }) => relay);
      const before = instances.counts.relayTakeovers;
      const { seen } = await killed(instances, target);
      await instances.until(() => instances.counts.relayTakeovers > before, "another relay to take over");
      return { seen: `${seen}; its relay was taken over`, hit: true };
    }
    case "shortPause":
      return pausedShortly(instances, { lot, ms });
    case "longPause":
      return pausedLong(instances, { lot, ms });
    case "brokerKill": {
      const { nodes, brokers } = stack.kafka!;
      const inSync = "every partition to have all of its replicas";
      // One at a time is what a cluster survives.
      await instances.until(async () => (await lacking(brokers)) === 0, inSync);
      const node = nodes[Math.floor(lot * nodes.length)]!;
      const { seen, hit } = await anotherProcess(node, async () => {
        await node.kill();
        await systemClock.sleep(ms);
        await node.start();
      });
      return { seen: `broker ${node.id}, ${seen}`, hit };
    }
    case "postgresCrash":
    case "postgresRestart": {
      const postgres = stack.postgres!;
      return anotherProcess(postgres, async () => {
        await postgres.stop({ immediate: kind === "postgresCrash" });
        await systemClock.sleep(ms);
        await postgres.start();
      });
    }
    case "kafkaCut":
    case "postgresCut": {
      const line = lineOf(kind);
      const target = await instances.choose(
        lot,
        `a process with connections to ${line}`,
        (each) => each[line].connections > 0,
      );
      const { connections } = target[line];
      target[line].cut();
      return { seen: `${connections} connections of ${target.name} reset`, hit: true };
    }
    case "kafkaSilent":
    case "postgresSilent":
      return silent(instances, { line: lineOf(kind), lot, ms });
    case "addAndStop":
    case "addAndKill": {
      const { leaving, tookPart } = await addThree(instances, lot);
      const names = leaving.map(({ name }) => name).join(", ");
      if (kind === "addAndKill") {
        const ends = await Promise.all(leaving.map((target) => killed(instances, target, { replaced: false })));
        return { seen: ends.map(({ seen }) => seen).join("; "), hit: tookPart && ends.some(({ hit }) => hit) };
      }
      const drained = await Promise.all(leaving.map((target) => instances.stop(target)));
      if (!drained.every(Boolean)) throw new Error(`not all of ${names} drained and ended with 0 after SIGTERM`);
      return { seen: `${names} drained and ended with 0`, hit: tookPart };
    }
  }
}

async function killed(instances: Instances, target: Instance, { replaced = true } = {}): Promise<Outcome> {
  const held = [...target.shards];
  const before = instances.takenOver(target);
  if (!(await instances.kill(target))) throw new Error(`${target.name} was not ended by SIGKILL`);
  if (replaced) await instances.start();
  const taken = await afterwards(instances, { target, held, before });
  return { seen: `${target.name} killed with ${held.length} shards, ${taken} taken over`, hit: taken > 0 };
}

async function pausedShortly(instances: Instances, { lot, ms }: { lot: number; ms: number }): Promise<Outcome> {
  const target = await instances.choose(lot, "a process that runs shards", ({ shards }) => shards.size > 0);
  const beganMs = performance.now();
  try {
    await instances.pause(target);
    await systemClock.sleep(ms);
  } finally {
    instances.resume(target);
  }
  return { seen: `${target.name} stood still for ${Math.round(performance.now() - beganMs)} ms`, hit: true };
}

async function pausedLong(instances: Instances, { lot, ms }: { lot: number; ms: number }): Promise<Outcome> {
  const target = await instances.choose(lot, "a process that runs shards", ({ shards }) => shards.size > 0);
  const before = instances.takenOver(target);
  const beganMs = performance.now();
  let taken = 0;
  try {
    await instances.pause(target);
    const held = [...target.shards];
    await systemClock.sleep(ms);
    taken = await afterwards(instances, { target, held, before });
  } finally {
    instances.resume(target);
  }
  const lastedMs = Math.round(performance.now() - beganMs);
  return {
    seen: `${target.name} stood still for ${lastedMs} ms, ${taken} shards taken over meanwhile`,
    hit: taken > 0,
  };
}

/** Until others run what it held. @returns how many shards they had to take over: it may have released some just in time */
async function afterwards(
  instances: Instances,
  { target, held, before }: { target: Instance; held: readonly number[]; before: number },
): Promise<number> {
  const runElsewhere = (shard: number) => instances.all.some((each) => each !== target && each.shards.has(shard));
  await instances.until(() => held.every(runElsewhere), `others to run shards ${held.join(", ")} of ${target.name}`);
  return instances.takenOver(target) - before;
}

/** Half-open: what one side sends never arrives, and nobody is told. Which side, the lot's last digits say. */
async function silent(
  instances: Instances,
  { line, lot, ms }: { line: "kafka" | "postgres"; lot: number; ms: number },
): Promise<Outcome> {
  const target = await instances.choose(lot, "a process that runs shards", ({ shards }) => shards.size > 0);
  const way: Line = target[line];
  const toxic = Math.floor(lot * 1e6) % 2 === 0 ? "dropRequests" : "dropReplies";
  const before = way.swallowedBytes;
  const beganMs = performance.now();
  way.swallow(toxic);
  await systemClock.sleep(ms);
  await instances.until(() => way.swallowedBytes > before || target.process.ended, "bytes to be swallowed");
  const swallowed = way.swallowedBytes - before;
  // Reset before it is healed: a stream with a hole in it must not go on.
  way.cut();
  way.heal();
  const what = `${toxic === "dropRequests" ? "requests" : "replies"} between ${target.name} and ${line}`;
  const lastedMs = Math.round(performance.now() - beganMs);
  return { seen: `${swallowed} bytes of ${what} swallowed in ${lastedMs} ms`, hit: swallowed > 0 };
}

/** @returns those that shall leave, and whether each that was added ran a shard in time */
async function addThree(instances: Instances, lot: number): Promise<{ leaving: Instance[]; tookPart: boolean }> {
  const added: Instance[] = [];
  for (let i = 0; i < ADDED; i += 1) added.push(await instances.start());
  let tookPart = true;
  try {
    await instances.until(() => added.every(({ shards }) => shards.size > 0), "each of three more to run a shard");
  } catch (error) {
    if (!(error instanceof GaveUp)) throw error;
    tookPart = false;
  }
  const random = mulberry32(Math.floor(lot * 2 ** 32));
  const leaving = instances.all
    .filter(({ busy, endExpected }) => !busy && !endExpected)
    .map((instance) => ({ instance, lot: random() }))
    .sort((a, b) => a.lot - b.lot)
    .slice(0, ADDED)
    .map(({ instance }) => instance);
  return { leaving, tookPart };
}

async function anotherProcess(server: { readonly pid: number | null }, fault: () => Promise<void>): Promise<Outcome> {
  const before = server.pid;
  await fault();
  const { pid } = server;
  return { seen: `pid ${before}, then ${pid}`, hit: before !== null && pid !== null && before !== pid };
}

function lineOf(kind: "kafkaCut" | "postgresCut" | "kafkaSilent" | "postgresSilent"): "kafka" | "postgres" {
  return kind.startsWith("kafka") ? "kafka" : "postgres";
}
