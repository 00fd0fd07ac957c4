/**
 * The audit's own fold of one shard of the trading app: what each record and tick must have led to, by docs/trading.md.
 *
 * Windows of one start close together when stream time reaches their due time, so state is kept by start: at most a handful of
 * starts are open at a time, whatever the length of the run. A desk needs no state of its own, since the newest summary of a
 * window is the window as it stands.
 */
import type { RecordVerdict, TimerVerdict } from "../../../audit/journal-format.ts";
import type { EffectSink, ShardFold } from "../../../audit/rules.ts";
import type { SourceRecord } from "../../../audit/sources.ts";
import { decide } from "./decide.ts";
import {
  DECISIONS,
  deadLettersOf,
  expectedDeadLetter,
  expectedDecision,
  expectedLate,
  expectedOrder,
  expectedTimerDeadLetter,
  LATE,
  ORDERS,
  OUTBOX,
  RELAYED_ORDERS,
} from "./effects.ts";
import { type GoodSignal, judgeSignal, TIMEFRAMES } from "./judge.ts";
import { idsOfSignal } from "./uuid.ts";

const WINDOW_MS = 300_000;
const LATENESS_MS = 10_000;
const LATEST_MAX = 10;

interface Window {
  readonly identities: Set<string>;
  buys: number;
  sells: number;
  readonly latest: GoodSignal[];
}

/** All windows of one start. */
interface Span {
  readonly dueMs: number;
  /** By symbol, one place per timeframe. */
  readonly windows: Map<string, Array<Window | undefined>>;
  /** `<symbol>/<timeframe>` of those whose timer has not fired. */
  readonly open: Set<string>;
}

/** @param options.relayed whether events of the outbox are expected on the relay's topic too */
export function createTradingFold(sink: EffectSink, options: { relayed: boolean }): ShardFold {
  const spans = new Map<number, Span>();
  let streamTimeMs: number | null = null;
  const counts = {
    accepted: 0,
    late: 0,
    duplicatesIgnored: 0,
    quarantined: 0,
    windowsClosed: 0,
    timersFired: 0,
    timersSetAside: 0,
  };

  return {
    record(record, verdict) {
      const judged = judgeSignal(record);
      if (verdict !== null || "codes" in judged) {
        setAside(record, verdict, "codes" in judged ? judged.codes : []);
        return;
      }
      if (streamTimeMs !== null && judged.ts < streamTimeMs - LATENESS_MS) {
        counts.late += 1;
        sink.expect(LATE, expectedLate(record, streamTimeMs - judged.ts));
        return;
      }
      streamTimeMs = Math.max(streamTimeMs ?? judged.ts, judged.ts);
      closeDue(streamTimeMs, Number.POSITIVE_INFINITY);
      accept(record, judged);
    },

    tick(tick) {
      streamTimeMs = Math.max(streamTimeMs ?? tick.streamTimeMs, tick.streamTimeMs);
      const setAsideNow = tick.verdicts.filter((verdict) => dropTimer(verdict, tick.streamTimeMs));
      closeDue(tick.streamTimeMs, tick.timers - setAsideNow.length);
    },

    streamTimeMs: () => streamTimeMs,

    counters: () => ({
      dropped: 0,
      late: counts.late,
      quarantined: counts.quarantined,
      duplicatesIgnored: counts.duplicatesIgnored,
      windowsClosed: counts.windowsClosed,
      timersFired: counts.timersFired,
    }),

    figures: () => ({
      // A late signal is a distinct one that came too late to have its effect.
      distinct: counts.accepted + counts.late,
      duplicatesIgnored: counts.duplicatesIgnored,
      windowsClosed: counts.windowsClosed,
      timersSetAside: counts.timersSetAside,
    }),
  };

  function setAside(record: SourceRecord, verdict: RecordVerdict | null, codes: readonly string[]): void {
    counts.quarantined += 1;
    const expected = expectedDeadLetter(record, verdict === null ? codes : [verdict.code]);
    sink.expect(deadLettersOf(record.topic), expected);
  }

  function accept(record: SourceRecord, signal: GoodSignal): void {
    const { symbol, timeframe, identity } = signal;
    const span = spanOf(Math.floor(signal.ts / WINDOW_MS) * WINDOW_MS);
    const desk = span.windows.get(symbol) ?? [];
    span.windows.set(symbol, desk);
    const place = TIMEFRAMES.indexOf(timeframe);
    const window = desk[place] ?? { identities: new Set<string>(), buys: 0, sells: 0, latest: [] };
    if (window.identities.has(identity)) {
      counts.duplicatesIgnored += 1;
      return;
    }
    desk[place] = window;
    span.open.add(`${symbol}/${timeframe}`);
    window.identities.add(identity);
    if (signal.side === "BUY") window.buys += 1;
    else window.sells += 1;
    window.latest.push(signal);
    if (window.latest.length > LATEST_MAX) window.latest.shift();
    counts.accepted += 1;

    const present = desk.filter((one) => one !== undefined);
    if (present.length < 2) return;
    const ids = idsOfSignal(record);
    const values = decide(present);
    sink.expect(DECISIONS, expectedDecision(signal, ids, values));
    if (values.order === null) return;
    const { row, event, relayed } = expectedOrder(signal, ids, values.order);
    sink.expect(ORDERS, row);
    sink.expect(OUTBOX, event);
    if (options.relayed) sink.expect(RELAYED_ORDERS, relayed);
  }

  function spanOf(startMs: number): Span {
    const existing = spans.get(startMs);
    if (existing !== undefined) return existing;
    const span: Span = { dueMs: startMs + WINDOW_MS + LATENESS_MS, windows: new Map(), open: new Set() };
    spans.set(startMs, span);
    return span;
  }

  /**
   * Closes windows that are due, at most `max`: a commit fires only so many timers by a tick. Which of those of one start come
   * first is not seen anywhere: no signal that is not late reaches them any more.
   */
  function closeDue(nowMs: number, max: number): void {
    if (!anyDue(nowMs)) return;
    let left = max;
    const due = [...spans].filter(([, span]) => span.dueMs <= nowMs).sort(([a], [b]) => a - b);
    for (const [startMs, { open }] of due) {
      const closing = Math.min(left, open.size);
      left -= closing;
      counts.windowsClosed += closing;
      counts.timersFired += closing;
      for (const name of [...open].slice(0, closing)) open.delete(name);
      if (open.size === 0) spans.delete(startMs);
    }
  }

  function anyDue(nowMs: number): boolean {
    for (const { dueMs } of spans.values()) if (dueMs <= nowMs) return true;
    return false;
  }

  /** A timer that was set aside never fires. @returns false when no such timer is due */
  function dropTimer(verdict: TimerVerdict, nowMs: number): boolean {
    if (verdict.actorType !== "window" || verdict.dueMs > nowMs) return false;
    const span = spans.get(verdict.dueMs - WINDOW_MS - LATENESS_MS);
    if (span === undefined || !span.open.delete(verdict.key)) return false;
    counts.timersFired += 1;
    counts.timersSetAside += 1;
    counts.quarantined += 1;
    const { stream, effect } = expectedTimerDeadLetter(verdict);
    sink.expect(stream, effect);
    return true;
  }
}
