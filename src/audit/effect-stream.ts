/**
 * One stream of effects, a topic or a table: what is found there, and the comparison with what the fold expects.
 *
 * What is found is read first and kept as a digest of its content, about 250 bytes an effect; the fold's effects are then held
 * against it as they are made. Only when contents differ is the stream read again, to say which fields.
 *
 * Invariants
 *   A-once    each expected effect is found once; no id and no source (instance, shard, seq, ordinal) is found twice.
 *   A-same    its content, labels and source are those expected.
 *   A-order   effects of one key of one shard stand on one partition, in the order of the input.
 *   A-nothing-else  what no input explains is reported as foreign.
 */
import { createHash } from "node:crypto";

import type { FindingKind, Findings } from "./report.ts";
import type { ExpectedEffect, FoundEffect } from "./rules.ts";

/** The commit, and the place among its published records, that a record names as its source. */
export interface EffectSource {
  readonly shard: number;
  readonly seq: number;
  readonly ordinal: number;
}

/** Something found on the stream. */
export interface FoundItem {
  /** null: nothing that the app's rules know. */
  readonly effect: FoundEffect | null;
  /** null for rows. */
  readonly place: { readonly partition: number; readonly offset: bigint } | null;
  /** null: the stream has no sources; "none": it should have one and has none, or another instance's. */
  readonly source: EffectSource | "none" | null;
}

/** Where the fold made an effect. */
export interface Making {
  readonly shard: number;
  readonly seq: number;
  /** Place among the records that the commit publishes, from 0; null for rows. */
  readonly ordinal: number | null;
}

export interface EffectStream {
  /** Effects found, doubled and foreign ones included. Says nothing before `load`. */
  found(): number;
  load(): Promise<void>;
  expect(effect: ExpectedEffect, making: Making): void;
  end(): Promise<void>;
}

/** What is kept of an effect found. */
interface Entry {
  readonly digest: number;
  readonly label: string | undefined;
  readonly partition: number;
  readonly offset: bigint;
  readonly source: EffectSource | null;
  expected: boolean;
}

/** Differing effects that are told field by field; each holds its whole content until the end. */
const DIFFERENCES_MAX = 20;
const TEXT_MAX = 300;

export function createEffectStream(options: {
  name: string;
  /** Reads the stream from its beginning; called twice when contents differ. */
  read: () => AsyncIterable<FoundItem>;
  /** Sources seen on any stream of the instance: shared, since no two records of one commit have the same ordinal. */
  sources: SourceRegister;
  findings: Findings;
}): EffectStream {
  const { name, findings, sources } = options;
  const entries = new Map<string, Entry>();
  const twins = new Set<string>();
  const lastByKey = new Map<string, { partition: number; offset: bigint }>();
  const differing = new Map<string, ExpectedEffect>();
  let foundCount = 0;
  let differingCount = 0;

  const whereIs = (id: string, place: FoundItem["place"]) =>
    place === null ? `${name} ${id}` : `${name}/${place.partition} offset ${place.offset}`;
  const placeOf = (entry: Entry) => (entry.partition < 0 ? null : { partition: entry.partition, offset: entry.offset });

  return {
    found: () => foundCount,

    async load() {
      for await (const item of options.read()) {
        foundCount += 1;
        take(item);
      }
    },

    expect(effect, making) {
      const { id } = effect;
      const entry = entries.get(id);
      if (entry === undefined) {
        const text = `${id} of shard ${making.shard}, commit ${making.seq} is missing: ${excerpt(JSON.stringify(effect.content))}`;
        findings.add("lost", text, name);
        return;
      }
      const add = (kind: FindingKind, text: string) =>
        findings.add(kind, `${id}: ${text}`, whereIs(id, placeOf(entry)));
      if (entry.expected) {
        add("mismatch", "two records of the input should have made it.");
        return;
      }
      entry.expected = true;
      if (entry.digest !== digestOf(effect.content)) {
        differingCount += 1;
        if (differing.size < DIFFERENCES_MAX) differing.set(id, effect);
      }
      if (effect.labels !== undefined && !effect.labels.includes(entry.label ?? "")) {
        add("mismatch", `it says ${entry.label ?? "nothing"}, expected ${effect.labels.join(" or ")}.`);
      }
      const { source } = entry;
      if (
        source !== null &&
        !(source.shard === making.shard && source.seq === making.seq && source.ordinal === making.ordinal)
      ) {
        add(
          "mismatch",
          `its source is ${sourceText(source)}, expected ${sourceText({ ...making, ordinal: making.ordinal ?? -1 })}.`,
        );
      }
      if (entry.partition >= 0) checkOrder(effect, entry, making, add);
    },

    async end() {
      for (const [id, entry] of entries) {
        if (entry.expected) continue;
        const from = entry.source === null ? "" : ` It names ${sourceText(entry.source)} as its source.`;
        findings.add("foreign", `No input explains ${id}.${from}`, whereIs(id, placeOf(entry)));
      }
      if (differingCount > 0) await tellDifferences();
    },
  };

  function take({ effect, place, source }: FoundItem): void {
    if (effect === null || source === "none") {
      const what = effect === null ? "It is nothing that this app makes." : "No commit of this instance is its source.";
      findings.add("foreign", what, whereIs(effect?.id ?? "(without an id)", place));
      return;
    }
    const id = detached(effect.id);
    const first = entries.get(id);
    if (first !== undefined) {
      findings.add("doubled", `${id} stands at ${whereIs(id, placeOf(first))} already.`, whereIs(id, place));
      return;
    }
    if (source !== null && !sources.take(source)) {
      findings.add(
        "doubled",
        `${id}: the source ${sourceText(source)} has published another record already.`,
        whereIs(id, place),
      );
    }
    if (effect.twin !== undefined) {
      const twin = detached(effect.twin);
      if (twins.has(twin)) findings.add("doubled", `${id}: ${twin} has an effect here already.`, whereIs(id, place));
      twins.add(twin);
    }
    entries.set(id, {
      digest: digestOf(effect.content),
      label: effect.label === undefined ? undefined : detached(effect.label),
      partition: place?.partition ?? -1,
      offset: place?.offset ?? -1n,
      source,
      expected: false,
    });
  }

  function checkOrder(
    effect: ExpectedEffect,
    { partition, offset }: Entry,
    { shard }: Making,
    add: (kind: FindingKind, text: string) => void,
  ): void {
    const key = `${shard}/${effect.key ?? "\u0000"}`;
    const last = lastByKey.get(key);
    if (last === undefined) {
      lastByKey.set(key, { partition, offset });
      return;
    }
    if (partition !== last.partition) {
      add("outOfOrder", `key ${effect.key} is on partitions ${last.partition} and ${partition}.`);
    } else if (offset < last.offset) {
      add("outOfOrder", `key ${effect.key}: it should stand after offset ${last.offset}.`);
      return;
    }
    last.partition = partition;
    last.offset = offset;
  }

  async function tellDifferences(): Promise<void> {
    const rest = differingCount - differing.size;
    for await (const { effect, place } of options.read()) {
      const expected = effect === null ? undefined : differing.get(effect.id);
      if (effect === null || expected === undefined) continue;
      differing.delete(effect.id);
      findings.add(
        "mismatch",
        `${effect.id}: ${differences(expected.content, effect.content)}`,
        whereIs(effect.id, place),
      );
      if (differing.size === 0) break;
    }
    for (const id of differing.keys()) findings.add("mismatch", `${id} differed, and was gone when read again.`, name);
    if (rest > 0) findings.add("mismatch", `${rest} more differ from what is expected.`, name, rest);
  }
}

/** The sources of all records found of one instance. */
export interface SourceRegister {
  /** @returns false when the source was there already */
  take(source: EffectSource): boolean;
}

/** A commit's ordinals stay far below 2^21, which leaves 2^32 commits a shard. */
const ORDINALS = 2 ** 21;

export function createSourceRegister(): SourceRegister {
  const byShard = new Map<number, Set<number>>();
  return {
    take({ shard, seq, ordinal }) {
      const seen = byShard.get(shard) ?? new Set();
      byShard.set(shard, seen);
      const before = seen.size;
      seen.add(seq * ORDINALS + ordinal);
      return seen.size > before;
    },
  };
}

/** 48 bits of SHA-1: one altered effect in 2^48 would go unseen. */
function digestOf(content: FoundEffect["content"]): number {
  return createHash("sha1").update(JSON.stringify(content)).digest().readUIntBE(0, 6);
}

function differences(expected: ExpectedEffect["content"], found: FoundEffect["content"]): string {
  const fields = new Set([...Object.keys(expected), ...Object.keys(found)]);
  const texts = [...fields]
    .filter((field) => expected[field] !== found[field])
    .flatMap((field) => fieldDifferences(field, expected[field] ?? null, found[field] ?? null));
  return excerpt(texts.join("; "));
}

/** A field that holds a JSON object on both sides is told member by member. */
function fieldDifferences(field: string, expected: string | number | null, found: string | number | null): string[] {
  const [a, b] = [objectOf(expected), objectOf(found)];
  const told = (name: string, x: unknown, y: unknown) =>
    `${name} is ${JSON.stringify(y)}, expected ${JSON.stringify(x)}`;
  if (a === null || b === null) return [told(field, expected, found)];
  const members = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter(
    (member) => JSON.stringify(a[member]) !== JSON.stringify(b[member]),
  );
  // The same members in another order or spelling.
  if (members.length === 0) return [told(field, expected, found)];
  return members.map((member) => told(`${field}.${member}`, a[member], b[member]));
}

function objectOf(text: string | number | null): Record<string, unknown> | null {
  if (typeof text !== "string" || !text.startsWith("{")) return null;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null; // It only looked like JSON; it is shown as text.
  }
}

/** A copy: a piece of a line or of a page of rows would keep the whole of it in memory. */
function detached(text: string): string {
  return Buffer.from(text, "utf8").toString("utf8");
}

function excerpt(text: string): string {
  return text.length <= TEXT_MAX ? text : `${text.slice(0, TEXT_MAX)}...`;
}

function sourceText({ shard, seq, ordinal }: EffectSource): string {
  return `shard ${shard}, commit ${seq}, ordinal ${ordinal}`;
}
