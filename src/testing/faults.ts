/**
 * What goes wrong in a simulation, and how often: by kind, drawn from the seed, counted when it takes effect.
 *
 * Each seed has a weather of its own: some kinds do not happen in it at all and others often, because faults of one kind
 * hide those of another. (Groce et al., swarm testing.)
 */
import type { Random } from "./random.ts";

export const FAULTS = {
  // of one request
  "request lost": "the connection breaks before the request arrives: no effect",
  "reply lost": "the request takes effect, and the connection breaks before its answer comes",
  "request late": "the connection breaks, and the request arrives all the same, later",
  "no answer": "nothing comes back until the caller's deadline; the request took effect",
  slow: "the request or its answer takes up to two seconds",
  // of a process
  "killed in a call": "SIGKILL while a request is under way",
  "stopped in a call": "SIGSTOP while a request is under way, beyond the session time-out, then SIGCONT",
  "killed at a point": "SIGKILL at a fail-point of the runtime",
  killed: "SIGKILL at any moment",
  stopped: "SIGSTOP, shorter than the session time-out",
  zombie: "SIGSTOP beyond the session time-out, then SIGCONT",
  "graceful stop": "SIGTERM: the worker drains and leaves the group",
  "worker added": "a further process joins the group",
  // of the servers
  rebalance: "the group assigns anew, and moves shards",
  "postgres down": "Postgres ends every session, and is back after a while",
  "kafka down": "no broker answers for a while",
  "cut from postgres": "one process does not reach Postgres",
  "cut from kafka": "one process does not reach Kafka: its session ends, its shards move",
  "transaction timed out": "the coordinator aborts an open transaction and fences its producer",
  "partition passed over":
    "an abort passes over a partition that has no leader at that moment, and leaves its records open",
  "coordinator behind":
    "the group's coordinator answers before it has read its log: with offsets of an earlier moment, or with none",
  "session ended": "Postgres ends a session that sat idle inside its transaction",
  "lock wait over": "a statement gave up waiting for a row that another session holds",
} as const;

export type FaultKind = keyof typeof FAULTS;
export const FAULT_KINDS = Object.keys(FAULTS) as FaultKind[];

/** Of each request, with what probability. */
export type CallFault =
  | "request lost"
  | "reply lost"
  | "request late"
  | "no answer"
  | "slow"
  | "killed in a call"
  | "stopped in a call";
const CALL_FAULTS: readonly CallFault[] = [
  "request lost",
  "reply lost",
  "request late",
  "no answer",
  "slow",
  "killed in a call",
];

/** Planned beforehand, at a time of the run. */
export type PlannedFault =
  | "killed"
  | "stopped"
  | "zombie"
  | "graceful stop"
  | "worker added"
  | "rebalance"
  | "postgres down"
  | "kafka down"
  | "cut from postgres"
  | "cut from kafka";
const PLANNED_FAULTS: readonly PlannedFault[] = [
  "killed",
  "stopped",
  "zombie",
  "graceful stop",
  "worker added",
  "rebalance",
  "postgres down",
  "kafka down",
  "cut from postgres",
  "cut from kafka",
];

export interface Plan {
  readonly atMs: number;
  readonly kind: PlannedFault;
  readonly lastsMs: number;
}

export interface Faults {
  /** Draws what happens to one request. */
  ofCall(): CallFault | null;
  /** Draws whether a process ends at a fail-point. */
  atPoint(): boolean;
  /** Draws whether an abort passes over a partition. */
  passesOver(): boolean;
  /** Draws whether the group's coordinator answers as of an earlier moment, and as of which: 0 <= x < 1 of what it had. */
  answersAsOf(): number | null;
  readonly plans: readonly Plan[];
  /** Notes that a fault took effect. */
  count(kind: FaultKind): void;
  readonly counts: ReadonlyMap<FaultKind, number>;
  /** From now on nothing goes wrong that is not under way. */
  end(): void;
  readonly ended: boolean;
}

export interface Weather {
  readonly calls: Readonly<Partial<Record<CallFault, number>>>;
  readonly atPoint: number;
  readonly passesOver: number;
  readonly answersOld: number;
  readonly plans: readonly Plan[];
}

export const NO_FAULTS: Weather = { calls: {}, atPoint: 0, passesOver: 0, answersOld: 0, plans: [] };

export function createFaults(weather: Weather, random: Random): Faults {
  const counts = new Map<FaultKind, number>();
  const calls = Object.entries(weather.calls) as [CallFault, number][];
  let ended = false;
  // Of their own, so that seeds of before this kind draw what they drew.
  const answers = random.fork("answers");
  const count = (kind: FaultKind) => void counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return {
    ofCall() {
      if (ended || calls.length === 0) return null;
      let drawn = random.next();
      for (const [kind, probability] of calls) {
        drawn -= probability;
        if (drawn < 0) return kind;
      }
      return null;
    },
    atPoint: () => !ended && random.chance(weather.atPoint),
    passesOver() {
      const drawn = !ended && random.chance(weather.passesOver);
      if (drawn) count("partition passed over");
      return drawn;
    },
    answersAsOf() {
      if (ended || !answers.chance(weather.answersOld)) return null;
      count("coordinator behind");
      return answers.next();
    },
    plans: weather.plans,
    count,
    counts,
    end() {
      ended = true;
    },
    get ended() {
      return ended;
    },
  };
}

/** Beyond it even an unlucky run comes to its end: a process that dies with every tenth request gets nowhere. */
const RATE_MAX = 0.03;
const KILL_RATE_MAX = 0.004;
/** Each takes several seconds of the twelve that have faults. */
const STOP_RATE_MAX = 0.008;
const PLANS_MAX = 12;

/** The weather of one seed. @param durationMs faults are planned in this time */
export function drawWeather(random: Random, { durationMs, sessionTimeoutMs }: WeatherSpan): Weather {
  const calls: Partial<Record<CallFault, number>> = {};
  for (const kind of CALL_FAULTS) {
    if (random.chance(0.5)) calls[kind] = random.next() ** 2 * (kind === "killed in a call" ? KILL_RATE_MAX : RATE_MAX);
  }
  const kinds = PLANNED_FAULTS.filter(() => random.chance(0.5));
  const plans: Plan[] = [];
  for (let i = kinds.length === 0 ? 0 : random.between(0, PLANS_MAX); i > 0; i -= 1) {
    const kind = random.pick(kinds);
    const lastsMs =
      kind === "zombie" ? sessionTimeoutMs * (1.2 + random.next() * 2) : random.next() ** 2 * sessionTimeoutMs;
    plans.push({ kind, atMs: Math.floor(random.next() * durationMs), lastsMs: Math.ceil(lastsMs) });
  }
  const atPoint = random.chance(0.4) ? random.next() ** 2 * KILL_RATE_MAX : 0;
  const passesOver = random.chance(0.2) ? random.next() : 0;
  // Kinds that came later draw from forks, or last: the weather of a seed without them is what it was before.
  const answers = random.fork("answers");
  const answersOld = answers.chance(0.2) ? answers.next() : 0;
  if (random.chance(0.5)) calls["stopped in a call"] = random.next() ** 2 * STOP_RATE_MAX;
  return { calls, atPoint, passesOver, answersOld, plans: plans.sort((a, b) => a.atMs - b.atMs) };
}

interface WeatherSpan {
  readonly durationMs: number;
  readonly sessionTimeoutMs: number;
}
