/**
 * Chaos for the demo: a seeded plan of kills and pauses, carried out only while there is lag, so that each hits work in flight.
 *
 * The plan: `kills` SIGKILLs that alternate between the processes, each with a restart, and one SIGSTOP that outlasts the session
 * time-out, then SIGCONT: the paused owner wakes up as a zombie. Which moment, and which process first, comes from the seed. One of the
 * kills hits whichever process holds the relay by then.
 */
export interface ChaosStep {
  readonly atMs: number;
  readonly kind: "kill" | "pause";
  /** Number of a process, or the one that holds the relay. */
  readonly target: number | "relay";
}

export interface ChaosPlan {
  readonly steps: readonly ChaosStep[];
  readonly pauseMs: number;
}

/** @param options.durationMs time the load lasts; the steps spread over 8 % .. 92 % of it */
export function planChaos(options: {
  seed: number;
  durationMs: number;
  kills: number;
  processes: number;
  sessionTimeoutMs: number;
}): ChaosPlan {
  const random = mulberry32(options.seed);
  const count = options.kills + 1;
  const first = options.durationMs * 0.08;
  const slot = (options.durationMs * 0.84) / count;
  const pauseAt = Math.floor(random() * count);
  const offset = Math.floor(random() * options.processes);
  const steps: ChaosStep[] = [];
  let kills = 0;
  for (let i = 0; i < count; i += 1) {
    const atMs = Math.round(first + slot * i + random() * slot * 0.4);
    if (i === pauseAt) steps.push({ atMs, kind: "pause", target: Math.floor(random() * options.processes) });
    else {
      steps.push({ atMs, kind: "kill", target: (kills + offset) % options.processes });
      kills += 1;
    }
  }
  const pauseMs = Math.round(options.sessionTimeoutMs * 1.5 + random() * options.sessionTimeoutMs);
  const killSteps = steps.flatMap((step, index) => (step.kind === "kill" ? [index] : []));
  const relayStep = killSteps[Math.floor(random() * killSteps.length)];
  return {
    steps: steps.map((step, index) => (index === relayStep ? { ...step, target: "relay" } : step)),
    pauseMs,
  };
}

/** A small seeded generator: same seed, same plan. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
