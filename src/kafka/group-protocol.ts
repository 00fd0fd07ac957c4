/**
 * The assignor in the form kafkajs takes: what members say of themselves when they join, and what the leader answers.
 *
 * A member's user data is JSON, `{"v":1,"version":3,"digest":"...","held":[0,4]}`. The name of the protocol carries its
 * version: members that do not share one cannot be in one group, so it changes only when old members could not read it.
 */

import type { PartitionAssigner } from "kafkajs";
import kafkajs from "kafkajs";
import type { AssignableMember } from "./assignor.ts";
import { assignShards } from "./assignor.ts";
import type { KafkaLogger } from "./client.ts";

export interface MemberCode {
  /** Version of the app: the order of code. */
  readonly version: number;
  /** Digest of the code, for whoever reads the group's state. */
  readonly digest: string;
}

export interface GroupProtocolOptions {
  /** Input topics: each gets the same partition numbers. */
  readonly topics: readonly string[];
  readonly shardCount: number;
  readonly code: MemberCode;
  /** Shards this member owns now. */
  readonly held: () => readonly number[];
  /** Per shard, version of the app that wrote its snapshot. Called by the leader of the group at every rebalance. */
  readonly snapshotVersions: () => Promise<ReadonlyMap<number, number>>;
  readonly logger: KafkaLogger;
}

export const GROUP_PROTOCOL = "lockstep-sticky-1";

/** The leader holds up the whole group while it asks, so it goes on with what it knew. */
const SNAPSHOT_VERSIONS_WAIT_MS = 3_000;

export function createGroupProtocol(options: GroupProtocolOptions): PartitionAssigner {
  const { topics, shardCount, code, held, logger } = options;
  const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;
  let versionsKnown: ReadonlyMap<number, number> = new Map();

  async function snapshotVersions(): Promise<ReadonlyMap<number, number>> {
    let timer: NodeJS.Timeout | undefined;
    try {
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(
          () => reject(new Error(`no answer within ${SNAPSHOT_VERSIONS_WAIT_MS} ms`)),
          SNAPSHOT_VERSIONS_WAIT_MS,
        );
      });
      versionsKnown = await Promise.race([options.snapshotVersions(), late]);
    } catch (err) {
      // Safe: whoever is given a shard with a newer snapshot refuses to load it, and the next rebalance asks again.
      logger.warn({ err }, "snapshot versions are unknown, shards are assigned by the last known ones");
    } finally {
      clearTimeout(timer);
    }
    return versionsKnown;
  }

  return () => ({
    name: GROUP_PROTOCOL,
    version: 1,
    protocol: () => ({
      name: GROUP_PROTOCOL,
      metadata: MemberMetadata.encode({ version: 1, topics: [...topics], userData: encodeUserData(code, held()) }),
    }),
    async assign({ members }) {
      const assignment = assignShards({
        shardCount,
        members: members.map(({ memberId, memberMetadata }) => ({
          memberId,
          ...decodeUserData(MemberMetadata.decode(memberMetadata)?.userData),
        })),
        snapshotVersions: await snapshotVersions(),
      });
      return [...assignment].map(([memberId, shards]) => ({
        memberId,
        memberAssignment: MemberAssignment.encode({
          version: 1,
          assignment: Object.fromEntries(topics.map((topic) => [topic, shards])),
          userData: Buffer.alloc(0),
        }),
      }));
    },
  });
}

function encodeUserData({ version, digest }: MemberCode, held: readonly number[]): Buffer {
  return Buffer.from(JSON.stringify({ v: 1, version, digest, held }));
}

/** A member that says nothing readable of itself holds nothing and has the oldest code: it gets only shards without a snapshot. */
function decodeUserData(userData: Buffer | undefined): Pick<AssignableMember, "held" | "version"> {
  try {
    const { version, held } = JSON.parse((userData ?? Buffer.alloc(0)).toString("utf8")) as {
      version: unknown;
      held: unknown;
    };
    if (typeof version === "number" && Array.isArray(held)) {
      return { version, held: held.filter((shard): shard is number => Number.isInteger(shard)) };
    }
  } catch {
    // Falls through: unreadable JSON is one of the ways of saying nothing.
  }
  return { version: Number.NEGATIVE_INFINITY, held: [] };
}
