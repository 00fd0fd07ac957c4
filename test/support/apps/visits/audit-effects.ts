/**
 * How the effects of the visits app look where they stand: the content that is compared, made from what is found and from
 * what is expected alike. Ids: docs/trading.md, "Ids".
 */
import { createHash } from "node:crypto";

import type { ExpectedEffect, PublishedRecord, SourceRecord, StreamRules, TopicRules } from "lockstep";

import { DEAD_LETTERS_TOPIC, ENDED_TOPIC, LATE_TOPIC, PEAKS_TOPIC } from "./topics.ts";

const NAMESPACE = "6f1d7c1e-5f0b-5e0a-9d55-0c0ffee0c0de";
const CAUSE = "__streams.errors.";
const LATE = "__lockstep.late.";

type Content = Readonly<Record<string, string | number | null>>;

/** @param parts of the origin, and the ordinal; the app's name is put before them */
export function idOf(parts: readonly unknown[]): string {
  const namespace = Buffer.from(NAMESPACE.replaceAll("-", ""), "hex");
  const bytes = createHash("sha1")
    .update(namespace)
    .update(JSON.stringify(["visits", ...parts]))
    .digest()
    .subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) % 16) + 0x50, 6);
  bytes.writeUInt8((bytes.readUInt8(8) % 64) + 0x80, 8);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export function expectedEnded(visit: {
  id: string;
  visitor: string;
  enteredAt: number;
  endedAt: number;
  pings: number;
  reason: string;
}): { published: ExpectedEffect; row: ExpectedEffect } {
  const { id, visitor, enteredAt, endedAt, pings, reason } = visit;
  const value = JSON.stringify({ id, visitor, enteredAt, endedAt, pings, reason });
  return {
    published: { id, key: visitor, content: contentOf(visitor, endedAt, value) },
    row: { id, key: visitor, content: { visitor, enteredAt, endedAt, pings, reason } },
  };
}

export function expectedPeak(
  id: string,
  told: { house: string; inside: number; at: number },
  timeMs: number,
): ExpectedEffect {
  return { id, key: told.house, content: contentOf(told.house, timeMs, JSON.stringify(told)) };
}

/** A record passed on as it came, to the dead letters or the late ones. */
export function expectedLetter(record: SourceRecord, more: Content): ExpectedEffect {
  const { topic, partition, offset, timestampMs, headers } = record;
  const [key, value] = [textOf(record.key), textOf(record.value)];
  const own = Object.fromEntries(headers.map(([name, bytes]) => [name, textOf(bytes) ?? ""]));
  const content = { ...contentOf(key, Number(timestampMs), value), own: JSON.stringify(own), ...more };
  return { id: `${topic}/${partition}/${offset}`, key, content };
}

const published = (name: string, figure: string): TopicRules => ({
  kind: "topic",
  name,
  figure,
  sourced: true,
  effectOf: ({ headers, key, timestampMs, value }) => {
    const id = headers["lockstep-id"];
    return id === undefined ? null : { id, content: contentOf(key, timestampMs, value) };
  },
});

export const STREAMS: readonly StreamRules[] = [
  published(ENDED_TOPIC, "ended"),
  published(PEAKS_TOPIC, "peaks"),
  {
    kind: "topic",
    name: LATE_TOPIC,
    figure: "late",
    sourced: true,
    effectOf: (record) => passedOn(record, LATE, { behindMs: record.headers[`${LATE}by-ms`] ?? null }),
  },
  {
    kind: "topic",
    name: DEAD_LETTERS_TOPIC,
    figure: "deadLetters",
    sourced: true,
    effectOf: (record) => {
      const effect = passedOn(record, CAUSE, {});
      return effect && { ...effect, label: record.headers[`${CAUSE}exception`] ?? "" };
    },
  },
  {
    kind: "table",
    name: "visits.visits",
    figure: "visits",
    keyColumn: "id",
    columns: {
      id: "id::text",
      visitor: "visitor",
      entered: "(extract(epoch from entered_at) * 1000)::bigint::text",
      ended: "(extract(epoch from ended_at) * 1000)::bigint::text",
      pings: "pings::text",
      reason: "reason",
    },
    effectOf: (row) => ({
      id: String(row["id"]),
      content: {
        visitor: String(row["visitor"]),
        enteredAt: Number(row["entered"]),
        endedAt: Number(row["ended"]),
        pings: Number(row["pings"]),
        reason: String(row["reason"]),
      },
    }),
  },
];

function passedOn(record: PublishedRecord, prefix: string, more: Content) {
  const { headers, key, timestampMs, value } = record;
  const origin = ["topic", "partition", "offset"].map((name) => headers[prefix + name]);
  if (origin.includes(undefined)) return null;
  const own = Object.entries(headers).filter(
    ([name]) => !["__streams.", "__lockstep.", "lockstep-"].some((system) => name.startsWith(system)),
  );
  const content = { ...contentOf(key, timestampMs, value), own: JSON.stringify(Object.fromEntries(own)), ...more };
  return { id: origin.join("/"), content };
}

function contentOf(key: string | null, timestampMs: number, value: string | null): Content {
  return { key, timestampMs, value };
}

function textOf(bytes: Buffer | null): string | null {
  return bytes === null ? null : bytes.toString("utf8");
}
