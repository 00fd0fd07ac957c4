/**
 * Name-based UUIDs (version 5, RFC 9562 section 5.5), and the ids that the trading app derives from its input
 * (docs/trading.md, "Ids").
 */
import { createHash } from "node:crypto";

const NAMESPACE = "6f1d7c1e-5f0b-5e0a-9d55-0c0ffee0c0de";
const APP = "trading";

/** Places of the emitted events of an accepted signal; `windowUpdated` is 0. */
const DECIDED = 1;
const ORDER_PLACED = 2;

export interface SignalIds {
  readonly decision: string;
  readonly order: string;
  /** The outbox event's. */
  readonly event: string;
}

export function idsOfSignal(at: { topic: string; partition: number; offset: bigint }): SignalIds {
  const id = (ordinal: number) =>
    uuid5(NAMESPACE, JSON.stringify([APP, at.topic, at.partition, at.offset.toString(), ordinal]));
  const order = id(ORDER_PLACED);
  return { decision: id(DECIDED), order, event: uuid5(order, "outbox") };
}

/** @param namespace a UUID */
export function uuid5(namespace: string, name: string): string {
  const hash = createHash("sha1")
    .update(Buffer.from(namespace.replaceAll("-", ""), "hex"))
    .update(name, "utf8")
    .digest();
  const bytes = hash.subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) % 16) + 0x50, 6); // version 5
  bytes.writeUInt8((bytes.readUInt8(8) % 64) + 0x80, 8); // variant 10
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
