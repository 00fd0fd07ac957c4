/**
 * The digest of what a commit makes durable, compared when the commit is replayed.
 */
import { createHash } from "node:crypto";

import type { PublishEffect, RowEffect } from "./effects.ts";
import { encodeRedo } from "./redo-codec.ts";

/**
 * SHA-1 over the packed records and the rows as JSON lines, hex. It detects change, not malice. The partition of a record is left
 * out: it follows from the key and from how many partitions the topic has, which may grow.
 */
export function digestOf(publishes: readonly PublishEffect[], rows: readonly RowEffect[]): string {
  const hash = createHash("sha1").update(encodeRedo(publishes.map((published) => ({ ...published, partition: 0 }))));
  for (const { table, row } of rows) hash.update(`${JSON.stringify([table, row])}\n`);
  return hash.digest("hex");
}
