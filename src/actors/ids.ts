/**
 * Ids derived from what caused them, never random: the same input gives the same ids in every replay (docs/trading.md, Ids).
 */
import { hash } from "node:crypto";

/** Namespace of all ids of Lockstep. */
export const NAMESPACE = "6f1d7c1e-5f0b-5e0a-9d55-0c0ffee0c0de";

/** What caused an event: a record, or a timer. */
export type IdOrigin =
  | { readonly kind: "record"; readonly topic: string; readonly partition: number; readonly offset: bigint }
  | {
      readonly kind: "timer";
      readonly actorType: string;
      readonly key: string;
      readonly timerId: string;
      readonly dueMs: number;
    };

/**
 * Id of the `ordinal`-th event that machines emitted while a record or timer was processed; -1 is the dead letter or late
 * record made of it.
 */
export function eventId(app: string, origin: IdOrigin, ordinal: number): string {
  const parts =
    origin.kind === "record"
      ? [app, origin.topic, origin.partition, String(origin.offset), ordinal]
      : [app, "timer", origin.actorType, origin.key, origin.timerId, origin.dueMs, ordinal];
  return uuidV5(NAMESPACE, JSON.stringify(parts));
}

/** A further id, of a name below an id. */
export function deriveId(id: string, name: string): string {
  return uuidV5(id, name);
}

/** RFC 9562, version 5. @param namespace a UUID */
export function uuidV5(namespace: string, name: string): string {
  // In one call: three times as fast as a Hash object, and ids are made for every published record.
  const hex = hash("sha1", Buffer.concat([namespaceBytes(namespace), Buffer.from(name)]), "hex");
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 0b0011) | 0b1000).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

const NAMESPACE_BYTES = Buffer.from(NAMESPACE.replaceAll("-", ""), "hex");

function namespaceBytes(namespace: string): Buffer {
  return namespace === NAMESPACE ? NAMESPACE_BYTES : Buffer.from(namespace.replaceAll("-", ""), "hex");
}
