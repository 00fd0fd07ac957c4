/**
 * Decoder of what `pgoutput` (protocol version 1) sends: database transactions, and the rows inserted in them.
 *
 * Values stay the bytes that Postgres printed; nothing is parsed (docs/relay.md, RI7). They are copied out of the message, since the
 * connection's parser uses its buffer again. Everything but inserts is passed over: the publication sends nothing else.
 *
 * Format: Postgres' manual, "Logical Replication Message Formats".
 */
import { LockstepError } from "../errors.ts";

/** Column -> the text of its value, null for NULL. */
export type LoggedValues = ReadonlyMap<string, Buffer | null>;

export type LoggedChange =
  /** @param commitLsn of the commit record, by which the database transaction is known; `committedMs` since the Unix epoch */
  | { readonly kind: "begin"; readonly commitLsn: bigint; readonly committedMs: number }
  | { readonly kind: "insert"; readonly table: string; readonly values: LoggedValues; readonly bytes: number }
  /** @param endLsn where the log goes on after the commit record */
  | { readonly kind: "commit"; readonly commitLsn: bigint; readonly endLsn: bigint };

/** Microseconds from the Unix epoch to Postgres' own, 2000-01-01. */
const EPOCH_US = 946_684_800_000_000n;

const TAG = { begin: 0x42, commit: 0x43, insert: 0x49, relation: 0x52 } as const;
const NULL = 0x6e;
const TEXT = 0x74;

interface Relation {
  readonly table: string;
  readonly columns: readonly string[];
}

/** One decoder a stream: the server describes a table before its first row, once a stream, and again when it changes. */
export function createDecoder(): (message: Buffer) => LoggedChange | null {
  const relations = new Map<number, Relation>();

  function insert(message: Buffer): LoggedChange {
    const relation = relations.get(message.readUInt32BE(1));
    // Byte 5 says "N", a new row follows.
    if (relation === undefined) throw undecodable("a row of a table that was not described");
    const count = message.readUInt16BE(6);
    const values = new Map<string, Buffer | null>();
    let at = 8;
    for (let i = 0; i < count; i += 1) {
      const name = relation.columns[i];
      const kind = message[at];
      at += 1;
      if (name === undefined) throw undecodable(`more values than columns of ${relation.table}`);
      if (kind === NULL) {
        values.set(name, null);
        continue;
      }
      // An insert has every value whole: "unchanged" exists for updates alone, and binary was not asked for.
      if (kind !== TEXT) throw undecodable(`a value of kind ${kind} in ${relation.table}.${name}`);
      const length = message.readUInt32BE(at);
      at += 4;
      values.set(name, Buffer.from(message.subarray(at, at + length)));
      at += length;
    }
    return { kind: "insert", table: relation.table, values, bytes: message.length };
  }

  return (message) => {
    switch (message[0]) {
      case TAG.begin:
        return {
          kind: "begin",
          commitLsn: message.readBigUInt64BE(1),
          committedMs: Number((message.readBigInt64BE(9) + EPOCH_US) / 1000n),
        };
      case TAG.commit:
        // Byte 1 has flags, of which none is in use.
        return { kind: "commit", commitLsn: message.readBigUInt64BE(2), endLsn: message.readBigUInt64BE(10) };
      case TAG.relation:
        relations.set(message.readUInt32BE(1), readRelation(message));
        return null;
      case TAG.insert:
        return insert(message);
      default:
        return null;
    }
  };
}

function readRelation(message: Buffer): Relation {
  let at = 5;
  const text = (): string => {
    const end = message.indexOf(0, at);
    const found = message.toString("utf8", at, end);
    at = end + 1;
    return found;
  };
  const table = `${text()}.${text()}`;
  at += 1; // replica identity: it matters to updates and deletes
  const count = message.readUInt16BE(at);
  at += 2;
  const columns: string[] = [];
  for (let i = 0; i < count; i += 1) {
    at += 1; // whether it is part of the key
    columns.push(text());
    at += 8; // type and its modifier
  }
  return { table, columns };
}

function undecodable(what: string): LockstepError {
  return new LockstepError("INVARIANT_BROKEN", `Postgres' log has ${what}.`);
}
