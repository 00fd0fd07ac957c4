/**
 * One member of the consumer group, for assignment only: nothing is fetched or committed through it.
 *
 * Every assigned partition is paused in the GROUP_JOIN listener, which kafkajs calls before it fetches for the first time
 * after a join; so its loop does nothing but sleep `IDLE_MS` and send heartbeats.
 *
 * Invariants
 *   M1  The group's offsets never move by this member: autoCommit is off, and nothing is ever fetched.
 *   M2  `answered` grows only when the coordinator has answered a heartbeat or a join of this member.
 *   M3  All inputs have the same partition numbers assigned: these are the shards.
 *
 * A consumer that failed is never restarted by kafkajs, which takes a coordinator that cannot be found for the end and
 * everything else for a reason to try five times a second. A new one is made here, with a back-off, unless the failure
 * is of a kind that stays (authorization, another protocol in the group).
 */
import { setTimeout as sleep } from "node:timers/promises";

import type { Consumer, ConsumerCrashEvent, ConsumerGroupJoinEvent } from "kafkajs";

import type { Membership, MembershipListener } from "../actors/ports.ts";
import { assert, LockstepError } from "../errors.ts";
import type { KafkaClient, KafkaHandle } from "./client.ts";
import { openConnection, persist } from "./connection.ts";
import type { MemberCode } from "./group-protocol.ts";
import { createGroupProtocol } from "./group-protocol.ts";
import { errorText, errorType, isRefused } from "./wire-errors.ts";

export interface JoinOptions {
  readonly client: KafkaClient;
  readonly groupId: string;
  /** Input topics, in order of definition. */
  readonly topics: readonly string[];
  /** Recorded partition count of the inputs. */
  readonly shardCount: number;
  /** Without a heartbeat for so long the coordinator gives the shards away. */
  readonly sessionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  /** How long a rebalance waits for members to join again. */
  readonly rebalanceTimeoutMs: number;
  readonly member: {
    readonly code: MemberCode;
    /** Shards this member owns now; read at every join. */
    readonly held: () => readonly number[];
  };
  readonly snapshotVersions: () => Promise<ReadonlyMap<number, number>>;
  readonly listener: MembershipListener;
}

/** How long the idle loop of kafkajs sleeps, which is how late a heartbeat can be. */
const IDLE_MS = 200;

const RESTART_FIRST_MS = 250;
const RESTART_MAX_MS = 2_000;

/** A stop that meets a rebalance would wait for its end; the session's end frees the shards as well. */
const STOP_WAIT_MS = 5_000;

/** Starts joining, and goes on by itself until `stop`. */
export function joinGroup(options: JoinOptions): Membership {
  const { client, listener } = options;
  const stopping = new AbortController();
  let answered = 0;
  let memberId: string | null = null;
  let current: { handle: KafkaHandle; consumer: Consumer } | null = null;
  let restartMs = RESTART_FIRST_MS;
  /** The start under way, or the wait before it. */
  let starting: Promise<void> = start();

  return {
    answered: () => answered,
    memberId: () => memberId,
    async stop() {
      if (stopping.signal.aborted) return;
      stopping.abort();
      const timer = setTimeout(() => current?.handle.destroy(), STOP_WAIT_MS);
      try {
        await starting;
        await current?.consumer.disconnect();
      } catch (err) {
        client.logger.debug({ err }, "the group member did not leave in order");
      } finally {
        clearTimeout(timer);
        current?.handle.destroy();
        memberId = null;
      }
    },
  };

  async function start(): Promise<void> {
    const handle = client.open();
    const consumer = createConsumer(handle);
    current = { handle, consumer };
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [...options.topics], fromBeginning: true });
      await consumer.run({ autoCommit: false, eachBatch: refuseBatch });
    } catch (error) {
      handle.destroy();
      scheduleRestart(error);
    }
  }

  function createConsumer(handle: KafkaHandle): Consumer {
    const consumer = handle.kafka.consumer({
      groupId: options.groupId,
      allowAutoTopicCreation: false,
      sessionTimeout: options.sessionTimeoutMs,
      heartbeatInterval: options.heartbeatIntervalMs,
      rebalanceTimeout: options.rebalanceTimeoutMs,
      maxWaitTimeInMs: IDLE_MS,
      retry: {
        initialRetryTime: 100,
        multiplier: 2,
        maxRetryTime: 2_000,
        retries: 5,
        restartOnFailure: async () => false,
      },
      partitionAssigners: [
        createGroupProtocol({
          topics: options.topics,
          shardCount: options.shardCount,
          code: options.member.code,
          held: options.member.held,
          snapshotVersions: options.snapshotVersions,
          logger: client.logger,
        }),
      ],
    });
    const isCurrent = () => current?.consumer === consumer && !stopping.signal.aborted;
    consumer.on(consumer.events.GROUP_JOIN, (event) => {
      // First, and without waiting for anything: kafkajs fetches right after this listener.
      pauseAll(consumer, event);
      if (!isCurrent()) return;
      restartMs = RESTART_FIRST_MS;
      answered += 1;
      memberId = event.payload.memberId;
      onJoined(event);
    });
    consumer.on(consumer.events.HEARTBEAT, () => {
      if (isCurrent()) answered += 1;
    });
    consumer.on(consumer.events.REBALANCING, () => {
      if (isCurrent()) listener.onRebalancing();
    });
    consumer.on(consumer.events.CRASH, (event: ConsumerCrashEvent) => {
      if (!isCurrent()) return;
      handle.destroy();
      scheduleRestart(event.payload.error);
    });
    return consumer;
  }

  function onJoined({ payload }: ConsumerGroupJoinEvent): void {
    let shards: number[];
    try {
      shards = shardsOf(payload.memberAssignment, options);
    } catch (error) {
      listener.onFailed(error);
      return;
    }
    listener.onAssigned(shards, {
      memberId: payload.memberId,
      isLeader: payload.isLeader,
      durationMs: payload.duration,
    });
  }

  function scheduleRestart(error: unknown): void {
    if (stopping.signal.aborted) return;
    if (isLasting(error)) {
      listener.onFailed(
        new LockstepError(
          "KAFKA_UNSUITABLE",
          `The group "${options.groupId}" cannot be joined (${errorText(error)}).`,
          {
            details: { groupId: options.groupId, type: errorType(error) },
            cause: error,
          },
        ),
      );
      return;
    }
    client.logger.warn(
      { err: error, group: options.groupId, restartMs },
      "the group member failed and is started anew",
    );
    const waitMs = restartMs;
    restartMs = Math.min(restartMs * 2, RESTART_MAX_MS);
    starting = sleep(waitMs, undefined, { signal: stopping.signal }).then(start, () => undefined);
  }
}

/** Takes a member out of the group on behalf of one that died, so that its shards are free at once. */
export async function leaveGroup(client: KafkaClient, groupId: string, memberId: string): Promise<void> {
  const connection = openConnection(client);
  try {
    await persist(connection, { what: `leave group ${groupId}`, deadlineMs: 10_000 }, async () => {
      const coordinator = await connection.coordinator("group", groupId);
      await coordinator.leaveGroup({ groupId, memberId });
    });
  } catch (error) {
    // Already gone, which is what was wanted.
    if (errorType(error) !== "UNKNOWN_MEMBER_ID") throw error;
  } finally {
    connection.destroy();
  }
}

function pauseAll(consumer: Consumer, { payload }: ConsumerGroupJoinEvent): void {
  const assigned = Object.entries(payload.memberAssignment).map(([topic, partitions]) => ({ topic, partitions }));
  if (assigned.length > 0) consumer.pause(assigned);
}

async function refuseBatch(): Promise<void> {
  assert(false, "the group member fetched records, though every partition is paused");
}

function shardsOf(memberAssignment: Readonly<Record<string, number[]>>, { topics, shardCount }: JoinOptions): number[] {
  const [first, ...others] = topics.map((topic) => [...(memberAssignment[topic] ?? [])].sort((a, b) => a - b));
  const shards = first ?? [];
  for (const other of others) {
    assert(other.join() === shards.join(), `inputs are assigned alike: ${JSON.stringify(memberAssignment)}`);
  }
  assert(
    shards.every((shard) => shard < shardCount),
    `no shard beyond ${shardCount} is assigned: ${shards.join()}`,
  );
  return shards;
}

/** A topic that is missing may still be made; everything else that is refused stays so. */
function isLasting(error: unknown): boolean {
  const type = errorType(error);
  if (type === "INCONSISTENT_GROUP_PROTOCOL" || type === "GROUP_MAX_SIZE_REACHED" || type === "INVALID_SESSION_TIMEOUT")
    return true;
  return isRefused(error) && type !== "UNKNOWN_TOPIC_OR_PARTITION";
}
