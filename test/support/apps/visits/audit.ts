/**
 * The visits app as the audit knows it: a fold of its own, written without the machines, and where its effects stand.
 *
 * Per shard: who is inside (since when, last seen, how many pings, when the visit times out), and per house how many are inside
 * and the most so far. A record is judged in this order: bad by itself, late, poison, then taken; only a record that is taken
 * fires the timers that are due and moves stream time.
 */
import type { AppRules, EffectSink, ShardFold, SourceRecord } from "lockstep";

import { expectedEnded, expectedLetter, expectedPeak, idOf, STREAMS } from "./audit-effects.ts";
import { judgeVisit } from "./audit-judge.ts";
import { DEAD_LETTERS_TOPIC, ENDED_TOPIC, EVENTS_TOPIC, LATE_TOPIC, PEAKS_TOPIC } from "./topics.ts";

const LATE_MS = 10_000;
const STAY_MS = 30_000;
const TABLE = "visits.visits";

interface Visit {
  readonly enteredAt: number;
  lastAt: number;
  pings: number;
  dueMs: number;
}

export const visitsRules: AppRules = {
  app: "visits",
  inputs: [EVENTS_TOPIC],
  streams: STREAMS,
  start: (_shard, sink) => createFold(sink),
  conclude({ figures, manifest, findings }) {
    const figure = (name: string) => figures[name] ?? 0;
    const shown = {
      events: figure("inputRecords"),
      distinct: figure("accepted") + figure("late"),
      repeats: figure("repeats"),
      late: figure("late"),
      deadLetters: figure("deadLetters"),
      ended: figure("ended"),
      visits: figure("visits"),
      timedOut: figure("timedOut"),
      peaks: figure("peaks"),
    };
    const sum = shown.distinct + shown.repeats + shown.deadLetters;
    if (sum !== shown.events)
      findings.add("mismatch", `${shown.events} events came, ${sum} are accounted for.`, "sums");
    if (shown.ended !== shown.visits)
      findings.add("mismatch", `${shown.ended} visits were published, ${shown.visits} have a row.`, "sums");
    if (manifest !== undefined) {
      const { sent } = manifest as { sent: Record<string, number> };
      const told = { total: "events", distinct: "distinct", duplicates: "repeats", late: "late", bad: "deadLetters" };
      for (const [name, figureName] of Object.entries(told)) {
        const found = shown[figureName as keyof typeof shown];
        if (sent[name] !== found)
          findings.add("mismatch", `${sent[name]} ${name} were sent, ${figureName} is ${found}.`, "manifest");
      }
    }
    return shown;
  },
};

function createFold(sink: EffectSink): ShardFold {
  const inside = new Map<string, Visit>();
  const houses = new Map<string, { inside: number; peak: number }>();
  const counts = { taken: 0, late: 0, quarantined: 0, begun: 0, ended: 0, timedOut: 0, repeats: 0, strangers: 0 };
  let nowMs: number | null = null;

  return {
    record(record, verdict) {
      const judged = judgeVisit(record);
      const codes = verdict === null ? judged.codes : [verdict.code];
      const { event } = judged;
      if (codes.length > 0 || event === null) return setAside(record, codes);
      if (nowMs !== null && event.at < nowMs - LATE_MS) {
        counts.late += 1;
        sink.expect(LATE_TOPIC, expectedLetter(record, { behindMs: String(nowMs - event.at) }));
        return;
      }
      if (event.kind === "poison") return setAside(record, ["MACHINE_THREW"]);
      const reached: number = Math.max(nowMs ?? event.at, event.at);
      timeOut(reached, Number.POSITIVE_INFINITY);
      nowMs = reached;
      counts.taken += 1;
      take(record, event);
    },
    tick({ streamTimeMs, timers }) {
      timeOut(streamTimeMs, timers);
      nowMs = Math.max(nowMs ?? streamTimeMs, streamTimeMs);
    },
    streamTimeMs: () => nowMs,
    counters: () => ({
      late: counts.late,
      quarantined: counts.quarantined,
      dropped: 0,
      visitsBegun: counts.begun,
      visitsEnded: counts.ended,
      repeatsIgnored: counts.repeats,
      strangersIgnored: counts.strangers,
      timersFired: counts.timedOut,
    }),
    figures: () => ({
      accepted: counts.taken - counts.repeats,
      repeats: counts.repeats,
      timedOut: counts.timedOut,
    }),
  };

  function take(record: SourceRecord, { visitor, kind, at }: { visitor: string; kind: string; at: number }): void {
    const reached = nowMs!; // a record was taken, so there is a stream time
    const visit = inside.get(visitor);
    if (visit === undefined) {
      if (kind !== "enter") {
        counts.strangers += 1;
        return;
      }
      inside.set(visitor, { enteredAt: at, lastAt: at, pings: 0, dueMs: reached + STAY_MS });
      counts.begun += 1;
      const house = houseOf(visitor);
      house.inside += 1;
      if (house.inside <= house.peak) return;
      house.peak = house.inside;
      // The visit's own event has ordinal 0, what the house tells is the next.
      const told = { house: visitor.slice(0, 1), inside: house.peak, at };
      sink.expect(
        PEAKS_TOPIC,
        expectedPeak(idOf([record.topic, record.partition, String(record.offset), 1]), told, at),
      );
      return;
    }
    if (at <= visit.lastAt) {
      counts.repeats += 1;
      return;
    }
    if (kind === "leave") {
      const id = idOf([record.topic, record.partition, String(record.offset), 0]);
      end(visitor, visit, { id, endedAt: at, reason: "left" });
      return;
    }
    visit.lastAt = at;
    visit.pings += 1;
    visit.dueMs = reached + STAY_MS;
  }

  function end(visitor: string, visit: Visit, told: { id: string; endedAt: number; reason: string }): void {
    inside.delete(visitor);
    houseOf(visitor).inside -= 1;
    counts.ended += 1;
    const { published, row } = expectedEnded({ visitor, enteredAt: visit.enteredAt, pings: visit.pings, ...told });
    sink.expect(ENDED_TOPIC, published);
    sink.expect(TABLE, row);
  }

  /** Ends visits that are due, at most `max`, in order of due time and visitor. */
  function timeOut(untilMs: number, max: number): void {
    const due = [...inside].filter(([, visit]) => visit.dueMs <= untilMs);
    due.sort(([a, x], [b, y]) => x.dueMs - y.dueMs || (a < b ? -1 : 1));
    for (const [visitor, visit] of due.slice(0, max)) {
      counts.timedOut += 1;
      const id = idOf(["timer", "visit", visitor, `xstate.after.${STAY_MS}.visit.inside`, visit.dueMs, 0]);
      end(visitor, visit, { id, endedAt: visit.dueMs, reason: "timedOut" });
    }
  }

  function setAside(record: SourceRecord, codes: readonly string[]): void {
    counts.quarantined += 1;
    sink.expect(DEAD_LETTERS_TOPIC, { ...expectedLetter(record, {}), labels: codes });
  }

  function houseOf(visitor: string): { inside: number; peak: number } {
    const name = visitor.slice(0, 1);
    const house = houses.get(name) ?? { inside: 0, peak: 0 };
    houses.set(name, house);
    return house;
  }
}
