/**
 * The relay's position, and how it stands in Kafka as an offset with metadata (docs/relay.md, "Words").
 */

export interface RelayPosition {
  /** E: end of the commit of the last database transaction that is published whole. */
  readonly lsn: bigint;
  /** The database transaction of which only the first `rows` rows are published; it ends above `lsn`. */
  readonly underWay: { readonly commitLsn: bigint; readonly rows: number } | null;
}

/** What the log is true of: LSNs of another server, timeline or slot mean nothing here. */
export interface LogIdentity {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly slot: string;
}

export interface StoredPosition {
  readonly position: RelayPosition;
  readonly log: LogIdentity;
}

export function formatPosition({ position, log }: StoredPosition): { offset: bigint; metadata: string } {
  const { commitLsn, rows } = position.underWay ?? { commitLsn: 0n, rows: 0 };
  return {
    offset: position.lsn,
    metadata: [log.systemIdentifier, log.timeline, log.slot, commitLsn, rows].join("/"),
  };
}

/** @returns null when no relay of ours wrote it */
export function parsePosition(offset: bigint, metadata: string): StoredPosition | null {
  const match = /^(\d+)\/(\d+)\/([a-z0-9_]+)\/(\d+)\/(\d+)$/.exec(metadata);
  if (!match) return null;
  const [, systemIdentifier, timeline, slot, commitLsn, rows] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const underWay = { commitLsn: BigInt(commitLsn), rows: Number(rows) };
  return {
    position: { lsn: offset, underWay: underWay.commitLsn === 0n ? null : underWay },
    log: { systemIdentifier, timeline: Number(timeline), slot },
  };
}
