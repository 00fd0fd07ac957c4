/**
 * A simulated process: what runs in it can be stopped for a while and go on as if nothing had happened (SIGSTOP), or end at
 * any moment with all its memory (SIGKILL).
 *
 *   running <-> stopped        killed, from either of them
 *
 * Code of a process only ever runs because a timer of its own came due or an answer reached it, so a process whose timers and
 * answers are held back stands still, and one to which none comes any more is dead.
 */
import type { Clock } from "../clock.ts";
import { type Schedule, virtualClock } from "./schedule.ts";

export class SimulatedProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #schedule: Schedule;
  #state: "running" | "stopped" | "killed" = "running";
  /** What came while it was stopped, in order. */
  #held: (() => void)[] = [];
  readonly #atKill: (() => void)[] = [];

  constructor(name: string, schedule: Schedule) {
    this.name = name;
    this.#schedule = schedule;
    this.clock = virtualClock(schedule, (delayMs, act) => this.after(delayMs, act));
  }

  get state(): "running" | "stopped" | "killed" {
    return this.#state;
  }

  /** A timer of the process. */
  after(delayMs: number, act: () => void): () => void {
    let cancelled = false;
    const cancel = this.#schedule.after(delayMs, () => this.#run(() => !cancelled && act()));
    return () => {
      cancelled = true;
      cancel();
    };
  }

  stop(): void {
    if (this.#state === "running") this.#state = "stopped";
  }

  /** What was held back comes now, one after the other. */
  resume(): void {
    if (this.#state !== "stopped") return;
    this.#state = "running";
    const held = this.#held;
    this.#held = [];
    for (const act of held) this.#schedule.after(0, () => this.#run(act));
  }

  kill(): void {
    if (this.#state === "killed") return;
    this.#state = "killed";
    this.#held = [];
    for (const tell of this.#atKill.splice(0)) tell();
  }

  /** What others notice of its end: its connections break. */
  onKill(tell: () => void): void {
    this.#atKill.push(tell);
  }

  #run(act: () => void): void {
    if (this.#state === "stopped") this.#held.push(act);
    else if (this.#state === "running") act();
  }
}
