/**
 * Requests from processes to the servers of a simulation. A request has an effect or has none, and its caller learns which, or
 * does not: every combination happens.
 *
 * Invariants
 *   N1  A request that arrives takes effect whole, at one moment.
 *   N2  An answer reaches a process that lives; one that is stopped gets it when it goes on.
 *   N3  A caller that got `Unreachable` knows nothing: the request may have taken effect, or may still do so.
 */
import type { CallFault, Faults } from "./faults.ts";
import type { SimulatedProcess } from "./process.ts";
import type { Random } from "./random.ts";
import type { Schedule } from "./schedule.ts";
import type { Trace } from "./trace.ts";

export type Server = "kafka" | "postgres";

/** The connection broke, or no answer came in time. */
export class Unreachable extends Error {
  readonly server: Server;
  constructor(server: Server, what: string, why: string) {
    super(`${server}: ${what}: ${why}`);
    this.name = "Unreachable";
    this.server = server;
  }
}

export interface Network {
  /**
   * @param act what the server does, when the request arrives; what it throws or rejects with is the server's answer
   * @throws {Unreachable} N3; else what `act` answered
   */
  call<T>(from: SimulatedProcess, request: Request, act: () => T | Promise<T>): Promise<T>;
  /** No request of this process, or of all, comes through to the server. @returns heals it */
  cut(server: Server, from: SimulatedProcess | null): () => void;
  isCut(server: Server, from: SimulatedProcess): boolean;
}

export interface Request {
  readonly to: Server;
  readonly what: string;
  readonly deadlineMs: number;
  /** Makes it safe from everything but the deadline: for what has no fault of its own, such as a poll. */
  readonly calm?: boolean;
}

const LATENCY_MS_MAX = 4;
const SLOW_MS_MAX = 2_000;
const LATE_MS_MAX = 3_000;

export function createNetwork(of: {
  schedule: Schedule;
  random: Random;
  faults: Faults;
  trace: Trace;
  onKill: (process: SimulatedProcess) => void;
  onStop: (process: SimulatedProcess) => void;
}): Network {
  const { schedule, random, faults, trace } = of;
  const cuts = new Set<{ server: Server; from: SimulatedProcess | null }>();
  const isCut = (server: Server, from: SimulatedProcess) =>
    [...cuts].some((cut) => cut.server === server && (cut.from === null || cut.from === from));

  return {
    call<T>(from: SimulatedProcess, request: Request, act: () => T | Promise<T>): Promise<T> {
      const { to, what, deadlineMs } = request;
      const fault: CallFault | null = request.calm ? null : faults.ofCall();
      let requestMs = random.next() ** 2 * LATENCY_MS_MAX;
      let replyMs = random.next() ** 2 * LATENCY_MS_MAX;
      if (fault === "slow") {
        if (random.chance(0.5)) requestMs += random.next() * SLOW_MS_MAX;
        else replyMs += random.next() * SLOW_MS_MAX;
      }
      if (fault !== null) {
        faults.count(fault);
        trace.note(from.name, `${to} ${what}`, fault);
      }
      return new Promise<T>((resolve, reject) => {
        const cancelDeadline = from.after(deadlineMs, () => unreachable("no answer in time"));
        const ended = (tell: () => void) => {
          cancelDeadline();
          tell(); // the first of several wins
        };
        const unreachable = (why: string) => ended(() => reject(new Unreachable(to, what, why)));
        const arrive = (answer: (reply: () => void) => void) => {
          if (isCut(to, from)) {
            from.after(replyMs, () => unreachable("no connection"));
            return;
          }
          let reply: () => void;
          const settle = (next: () => void) => {
            reply = next;
            answer(() => (isCut(to, from) ? unreachable("the connection broke") : reply()));
          };
          try {
            const result = act();
            if (result instanceof Promise) {
              result.then(
                (value) => settle(() => ended(() => resolve(value))),
                (error: unknown) => settle(() => ended(() => reject(error))),
              );
            } else settle(() => ended(() => resolve(result)));
          } catch (error) {
            settle(() => ended(() => reject(error)));
          }
        };
        switch (fault) {
          case "request lost":
            from.after(requestMs, () => unreachable("the connection broke"));
            break;
          case "request late":
            from.after(requestMs, () => unreachable("the connection broke"));
            schedule.after(requestMs + random.next() * LATE_MS_MAX, () => arrive(() => {}));
            break;
          case "reply lost":
            schedule.after(requestMs, () =>
              arrive(() => from.after(replyMs, () => unreachable("the connection broke"))),
            );
            break;
          case "no answer":
            schedule.after(requestMs, () => arrive(() => {}));
            break;
          case "killed in a call":
            schedule.after(requestMs, () => arrive(() => {}));
            schedule.after(requestMs * random.next() * 2, () => of.onKill(from));
            break;
          case "stopped in a call":
            schedule.after(requestMs, () => arrive((reply) => from.after(replyMs, reply)));
            schedule.after(requestMs * random.next() * 2, () => of.onStop(from));
            break;
          default:
            schedule.after(requestMs, () => arrive((reply) => from.after(replyMs, reply)));
        }
      });
    },
    cut(server, from) {
      const cut = { server, from };
      cuts.add(cut);
      return () => cuts.delete(cut);
    },
    isCut,
  };
}
