/**
 * What is done to a deployment in a soak, and when: drawn from a seed, pure.
 *
 * Invariants
 *   SK1  The same seed and length give the same schedule.
 *   SK2  Every kind comes once before any comes twice, and so on: the kinds are dealt like decks of cards, each deck shuffled.
 *   SK3  Times do not fall, and lie within the length of the run.
 *
 * A time says "not before": a round waits for the end of the one before it. A companion is a second fault, begun while the first is under
 * way. Which process a fault meets is a lot from [0, 1), drawn now and applied to those that can be met then.
 */
import { mulberry32 } from "../../src/cli/chaos.ts";

export const FAULT_KINDS = [
  "kill",
  "relayKill",
  "shortPause",
  "longPause",
  "brokerKill",
  "postgresCrash",
  "postgresRestart",
  "kafkaCut",
  "postgresCut",
  "kafkaSilent",
  "postgresSilent",
  "addAndStop",
  "addAndKill",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  readonly kind: FaultKind;
  /** [0, 1): which of those that can be met. */
  readonly lot: number;
  /** How long it lasts, ms; 0 for what has no length. A long pause may last longer, until it was noticed. */
  readonly ms: number;
}

export interface Round {
  /** Since the begin of the load, ms: not before. */
  readonly atMs: number;
  readonly fault: Fault;
  /** Begun so many ms after the fault. */
  readonly companion: (Fault & { readonly afterMs: number }) | null;
}

export interface Schedule {
  readonly seed: number;
  readonly minutes: number;
  readonly rounds: readonly Round[];
}

/** From one fault to the next: about what the slower kinds and the recovery from them take. */
const EVERY_MS = 14_000;
/** Share of the run in which faults begin. */
const BEGIN_SHARE = 0.02;
const END_SHARE = 0.95;
const COMPANION_SHARE = 0.35;
const COMPANION_AFTER_MS_MAX = 2_000;

/** Those during which something else can go wrong, and what that is. */
const ACCOMPANIED: ReadonlySet<FaultKind> = new Set<FaultKind>([
  "kill",
  "shortPause",
  "longPause",
  "brokerKill",
  "postgresCrash",
  "postgresRestart",
  "kafkaSilent",
  "postgresSilent",
]);
const COMPANIONS = ["kill", "kafkaCut", "postgresCut"] as const;

/** @param options.sessionMs session time-out, after which the group gives away what a stopped process holds */
export function drawSchedule(options: { seed: number; minutes: number; sessionMs: number }): Schedule {
  const { seed, minutes, sessionMs } = options;
  const random = mulberry32(seed);
  const durationMs = minutes * 60_000;
  const spanMs = durationMs * (END_SHARE - BEGIN_SHARE);
  const count = Math.max(FAULT_KINDS.length, Math.floor(spanMs / EVERY_MS));
  const slotMs = spanMs / count;
  const draw = (kind: FaultKind): Fault => ({ kind, lot: random(), ms: lengthOf(kind, random(), sessionMs) });
  const rounds: Round[] = [];
  let deck: FaultKind[] = [];
  for (let i = 0; i < count; i += 1) {
    if (deck.length === 0) deck = shuffled(FAULT_KINDS, random);
    const fault = draw(deck.pop()!);
    const accompanied = ACCOMPANIED.has(fault.kind) && random() < COMPANION_SHARE;
    rounds.push({
      atMs: Math.round(durationMs * BEGIN_SHARE + slotMs * (i + random() * 0.5)),
      fault,
      companion: accompanied
        ? {
            ...draw(COMPANIONS[Math.floor(random() * COMPANIONS.length)]!),
            afterMs: Math.round(random() * COMPANION_AFTER_MS_MAX),
          }
        : null,
    });
  }
  return { seed, minutes, rounds };
}

/** One line a round. */
export function scheduleText({ seed, minutes, rounds }: Schedule): string {
  const of = ({ kind, ms }: Fault) => (ms === 0 ? kind : `${kind} ${ms} ms`);
  const lines = rounds.map(
    ({ atMs, fault, companion }) =>
      `${(atMs / 1000).toFixed(1).padStart(8)} s  ${of(fault)}${companion ? `, ${companion.afterMs} ms later ${of(companion)}` : ""}`,
  );
  return [`schedule of seed ${seed}, ${minutes} min, ${rounds.length} rounds:`, ...lines].join("\n");
}

/** How often each kind is in it, companions included. */
export function plannedOf({ rounds }: Schedule): Record<FaultKind, number> {
  const planned = Object.fromEntries(FAULT_KINDS.map((kind) => [kind, 0])) as Record<FaultKind, number>;
  for (const { fault, companion } of rounds) {
    planned[fault.kind] += 1;
    if (companion) planned[companion.kind] += 1;
  }
  return planned;
}

/** @param lot [0, 1) */
function lengthOf(kind: FaultKind, lot: number, sessionMs: number): number {
  const between = (from: number, to: number) => Math.round(from + lot * (to - from));
  switch (kind) {
    case "shortPause":
      return between(0.1 * sessionMs, 0.7 * sessionMs);
    case "longPause":
      return between(1.2 * sessionMs, 2.5 * sessionMs);
    case "brokerKill":
      return between(0, 5_000);
    case "postgresCrash":
    case "postgresRestart":
      return between(0, 3_000);
    case "kafkaSilent":
    case "postgresSilent":
      return between(500, 6_000);
    default:
      return 0;
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const cards = [...items];
  for (let i = cards.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [cards[i], cards[j]] = [cards[j]!, cards[i]!];
  }
  return cards;
}
