/**
 * The load of the overload test, in a process of its own, so that making and sending signals does not slow down what is measured.
 * It sends ONE plan of the app's generator, in order, at whatever pace the parent asks for, and at the end hands over the manifest.
 *
 * Event time runs at `1 / SIGNALS_PER_EVENT_SECOND` a record whatever the pace: a batch spans less event time than the generator
 * allows its topics to be apart, so that no signal becomes late that was not meant to be, and the manifest holds.
 *
 *   parent -> sender   { rate, upTo }   from now on `rate` records a second, until `upTo` have been sent
 *                      { finish: true } no more; answered by the manifest
 *   sender -> parent   { ready: true }, { sent } every 100 ms, { manifest }
 */
import { openSender, type SentRecord } from "../../src/kafka/sender.ts";
import { createTally, type Manifest } from "../../src/machines/trading/generate/manifest.ts";
import { generatorOptions } from "../../src/machines/trading/generate/options.ts";
import { type PlannedRecord, plan } from "../../src/machines/trading/generate/plan.ts";
import { TRADING_TOPICS } from "../../src/machines/trading/topics.ts";

export type ToSender = { readonly rate: number; readonly upTo: number } | { readonly finish: true };
export type FromSender = { readonly ready: true } | { readonly sent: number } | { readonly manifest: Manifest };

/** More than any run sends; event time begins so long ago that it never passes the clock. */
const RECORDS_MAX = 6_000_000;
const SIGNALS_PER_EVENT_SECOND = 400;
/** 2.5 s of event time, of the 3 s that the generator allows: each send is one round trip. */
const BATCH_MAX = 1_000;
/** Records planned ahead while there is nothing to send, about 500 bytes each: half a minute of an overload. Planning is half of what a record costs here. */
const AHEAD_MAX = 400_000;
/** Records that were sent and are still held. */
const FORGET_AT = 20_000;
/** Planned in one go, after which messages come in between. */
const PLAN_STEP = 500;
const TICK_MS = 10;
/** Less than a batch waits for so long: a request for each few records costs the broker, and who reads them, more than they do. */
const SEND_EVERY_MS = 50;
const REPORT_EVERY_MS = 100;

export async function main(_args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const brokers = env["LOCKSTEP_KAFKA_BROKERS"]!.split(",");
  const startMs = Date.now() - (RECORDS_MAX / SIGNALS_PER_EVENT_SECOND) * 1000;
  // The more symbols, the more even the shards, and the fewer signals a window has.
  const options = generatorOptions({ symbols: 1_000, rate: SIGNALS_PER_EVENT_SECOND, speed: 1, total: RECORDS_MAX });
  const tally = createTally(options.partitions);
  const startedAt = new Date().toISOString();
  const records = plan({ ...options, startMs }, startMs);
  /** Planned; those before `first` are sent. */
  let ahead: PlannedRecord[] = [];
  let first = 0;
  let order = { rate: 0, upTo: 0, fromMs: 0, fromSent: 0 };
  let finished = false;
  let wake: () => void = () => {};
  process.on("message", (message: ToSender) => {
    if ("finish" in message) finished = true;
    else order = { ...message, fromMs: performance.now(), fromSent: tally.total };
    wake();
  });
  process.on("disconnect", () => process.exit(1)); // the parent is gone: nobody wants what is sent
  const sender = await openSender(
    brokers,
    TRADING_TOPICS.map(({ name }) => name),
  );
  tell({ ready: true });
  let reportedMs = 0;
  let sentAtMs = 0;
  while (!finished) {
    const nowMs = performance.now();
    if (nowMs - reportedMs >= REPORT_EVERY_MS) {
      tell({ sent: tally.total });
      reportedMs = nowMs;
    }
    const dueTotal = order.fromSent + Math.floor(((nowMs - order.fromMs) / 1000) * order.rate);
    const due = Math.min(dueTotal, order.upTo) - tally.total;
    const isWorthIt = due >= BATCH_MAX || tally.total + due === order.upTo || nowMs - sentAtMs >= SEND_EVERY_MS;
    if (due <= 0 || !isWorthIt) {
      const planned = ahead.length - first;
      if (planned >= AHEAD_MAX) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          setTimeout(resolve, TICK_MS);
        });
      } else {
        planUpTo(planned + PLAN_STEP);
        await new Promise<void>((resolve) => setImmediate(resolve)); // messages come in between
      }
      continue;
    }
    sentAtMs = nowMs;
    const count = Math.min(due, BATCH_MAX);
    planUpTo(count); // no more than this while there is something to send
    const batch = ahead.slice(first, first + count);
    first += count;
    if (first >= FORGET_AT) {
      ahead = ahead.slice(first);
      first = 0;
    }
    const sentMs = Date.now();
    await sender.send(batch.map((record) => outgoing(record, sentMs)));
    for (const record of batch) tally.add(record);
  }
  await sender.close();
  tell({ sent: tally.total });
  tell({ manifest: tally.manifest({ options: { ...options, startMs }, startedAt }) });
  process.disconnect();
  return 0;

  function planUpTo(count: number): void {
    while (ahead.length - first < count) {
      const { done, value } = records.next();
      if (done) throw new Error(`a run of the overload test sends at most ${RECORDS_MAX} records`);
      ahead.push(value);
    }
  }
}

function outgoing({ topic, partition, key, value, timestampMs }: PlannedRecord, sentMs: number): SentRecord {
  return {
    topic,
    partition,
    key: key === null ? null : Buffer.from(key),
    value,
    timestampMs: timestampMs ?? sentMs,
    headers: {},
  };
}

function tell(message: FromSender): void {
  process.send!(message);
}
