/**
 * The consumer group in memory: a coordinator, and members that join, send heartbeats, and are told what they own.
 *
 *   stable -- a member joins, leaves, falls silent, or a rebalance is forced --> rebalancing -- all have joined, or its time is over --> stable
 *
 * Assignments are made by `assignShards`, the one the real group uses. A member learns of a rebalance by its next heartbeat; one
 * that is stopped, or cut off, learns late or never, and goes on with what it had: so two members hold one shard, as they do
 * in a real group.
 */
import type { Membership, MembershipListener } from "../actors/ports.ts";
import { assignShards } from "../kafka/assignor.ts";
import { type Network, Unreachable } from "./network.ts";
import type { SimulatedProcess } from "./process.ts";
import type { Schedule } from "./schedule.ts";
import type { Trace } from "./trace.ts";

export interface GroupOptions {
  readonly schedule: Schedule;
  readonly trace: Trace;
  readonly shardCount: number;
  readonly sessionTimeoutMs: number;
  readonly rebalanceTimeoutMs: number;
  /** Per shard, version of the app that wrote its snapshot. */
  readonly snapshotVersions: () => ReadonlyMap<number, number>;
}

interface Member {
  readonly id: string;
  readonly version: number;
  held: readonly number[];
  /** Joins the rebalance under way; null when it has not come yet. */
  joined: ((assignment: Assignment) => void) | null;
  cancelSession: () => void;
}

interface Assignment {
  readonly generation: number;
  readonly shards: readonly number[];
}

type Answer = "ok" | "rebalancing" | "unknown";

/** How long the first member of an empty group waits for others, and every rebalance at least. */
const JOIN_WAIT_MS = 20;

export class MemoryGroup {
  readonly #options: GroupOptions;
  readonly #members = new Map<string, Member>();
  /** The rebalance under way was forced, and moves shards. */
  #shuffle = false;
  #rebalancing = false;
  #generation = 0;
  #made = 0;
  #cancelDeadline: () => void = () => {};

  constructor(options: GroupOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#members.size;
  }

  /** Moves shards although nobody came or went. */
  rebalance(): void {
    this.#shuffle = true;
    this.#startRebalance("forced");
  }

  /** JoinGroup and SyncGroup. @returns the member's id and, when the rebalance is over, its shards */
  join(memberId: string | null, version: number, held: readonly number[]): Promise<{ id: string } & Assignment> {
    let member = memberId === null ? undefined : this.#members.get(memberId);
    if (!member) {
      this.#made += 1;
      member = { id: `member-${this.#made}`, version, held, joined: null, cancelSession: () => {} };
      this.#members.set(member.id, member);
    }
    const joining = member;
    joining.held = held;
    this.#renew(joining);
    return new Promise((resolve) => {
      joining.joined = (assignment) => resolve({ id: joining.id, ...assignment });
      this.#startRebalance(`${joining.id} joins`);
      this.#completeWhenAllJoined();
    });
  }

  heartbeat(memberId: string): Answer {
    const member = this.#members.get(memberId);
    if (!member) return "unknown";
    this.#renew(member);
    return this.#rebalancing ? "rebalancing" : "ok";
  }

  leave(memberId: string): void {
    const member = this.#members.get(memberId);
    if (!member) return;
    member.cancelSession();
    this.#members.delete(memberId);
    this.#startRebalance(`${memberId} is gone`);
  }

  #renew(member: Member): void {
    member.cancelSession();
    member.cancelSession = this.#options.schedule.after(this.#options.sessionTimeoutMs, () => this.leave(member.id));
  }

  #startRebalance(why: string): void {
    if (this.#rebalancing) return;
    const { schedule, trace, rebalanceTimeoutMs } = this.#options;
    trace.note("group", "rebalancing", why);
    this.#rebalancing = true;
    this.#cancelDeadline = schedule.after(rebalanceTimeoutMs, () => this.#complete());
    schedule.after(JOIN_WAIT_MS, () => this.#completeWhenAllJoined());
  }

  #completeWhenAllJoined(): void {
    if (!this.#rebalancing) return;
    if ([...this.#members.values()].every((member) => member.joined !== null)) this.#complete();
  }

  #complete(): void {
    if (!this.#rebalancing) return;
    this.#cancelDeadline();
    this.#rebalancing = false;
    this.#generation += 1;
    for (const member of [...this.#members.values()]) {
      if (member.joined !== null) continue;
      member.cancelSession();
      this.#members.delete(member.id);
    }
    const { shardCount, snapshotVersions, trace } = this.#options;
    const members = [...this.#members.values()];
    // Forced: each is said to hold what another one holds.
    const holder = (i: number) => members[(i + (this.#shuffle ? 1 : 0)) % members.length]!;
    const given = members.map(({ id, version }, i) => ({ memberId: id, version, held: holder(i).held }));
    this.#shuffle = false;
    const assignment = assignShards({ shardCount, members: given, snapshotVersions: snapshotVersions() });
    for (const member of members) {
      const { joined } = member;
      member.joined = null;
      const shards = assignment.get(member.id) ?? [];
      trace.note("group", `generation ${this.#generation}: ${member.id}`, shards.join());
      joined?.({ generation: this.#generation, shards });
    }
  }
}

export interface JoinOptions {
  readonly group: MemoryGroup;
  readonly network: Network;
  readonly process: SimulatedProcess;
  readonly version: number;
  readonly heartbeatIntervalMs: number;
  readonly rebalanceTimeoutMs: number;
  readonly held: () => readonly number[];
  readonly listener: MembershipListener;
  readonly onError: (error: unknown) => void;
}

/** One member: joins, sends heartbeats, joins again whenever it is told to. */
export function joinMemoryGroup(options: JoinOptions): Membership {
  const { group, network, process, version, heartbeatIntervalMs, listener } = options;
  const { clock } = process;
  const stopping = new AbortController();
  let answered = 0;
  let memberId: string | null = null;
  live().catch(options.onError);

  async function live(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await joinOnce();
        while (!stopping.signal.aborted) {
          await clock.sleep(heartbeatIntervalMs, stopping.signal);
          const id = memberId;
          if (stopping.signal.aborted || id === null) return;
          const answer = await call("heartbeat", heartbeatIntervalMs * 2, () => group.heartbeat(id));
          if (answer === "unknown") memberId = null;
          else answered += 1;
          if (answer === "rebalancing") listener.onRebalancing();
          if (answer !== "ok") break;
        }
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        await clock.sleep(heartbeatIntervalMs, stopping.signal);
      }
    }
  }

  async function joinOnce(): Promise<void> {
    const startMs = clock.monotonicMs();
    const id = memberId;
    const held = [...options.held()];
    const assignment = await call("join", options.rebalanceTimeoutMs * 3, () => group.join(id, version, held));
    if (stopping.signal.aborted) {
      group.leave(assignment.id);
      return;
    }
    memberId = assignment.id;
    answered += 1;
    const durationMs = clock.monotonicMs() - startMs;
    listener.onAssigned(assignment.shards, { memberId, isLeader: false, durationMs });
  }

  function call<T>(what: string, deadlineMs: number, act: () => T | Promise<T>): Promise<T> {
    return network.call(process, { to: "kafka", what, deadlineMs }, act);
  }

  return {
    answered: () => answered,
    memberId: () => memberId,
    async stop() {
      if (stopping.signal.aborted) return;
      stopping.abort();
      const id = memberId;
      memberId = null;
      if (id === null) return;
      try {
        await call("leave", heartbeatIntervalMs * 2, () => group.leave(id));
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error; // its session ends by itself
      }
    },
  };
}
