/**
 * Records of `__consumer_offsets` that hold a committed offset, decoded. Their layout is Kafka's own and public: a version,
 * then fields by version (OffsetCommitKey and OffsetCommitValue in Kafka's message definitions; versions 0 to 4 of the value).
 */

export interface OffsetKey {
  readonly group: string;
  readonly topic: string;
  readonly partition: number;
}

export interface OffsetValue {
  readonly offset: bigint;
  readonly metadata: string;
}

/** Other versions are keys of other records: members of groups, their assignments. */
const OFFSET_KEY_VERSIONS: ReadonlySet<number> = new Set([0, 1]);
/** From here on the value has the epoch of the leader it was taken from. */
const WITH_LEADER_EPOCH = 3;
/** From here on strings are compact: their length, plus one, is a varint. */
const COMPACT = 4;

/** @returns null when the record is about something else */
export function decodeOffsetKey(key: Buffer | null): OffsetKey | null {
  if (key === null || key.length < 2 || !OFFSET_KEY_VERSIONS.has(key.readInt16BE(0))) return null;
  const group = readString(key, 2);
  const topic = readString(key, group.next);
  return { group: group.text, topic: topic.text, partition: key.readInt32BE(topic.next) };
}

/** @throws {RangeError} a version that is newer than what we know, or bytes that end too early */
export function decodeOffsetValue(value: Buffer): OffsetValue {
  const version = value.readInt16BE(0);
  if (version < 0 || version > COMPACT) throw new RangeError(`a committed offset of version ${version}`);
  const offset = value.readBigInt64BE(2);
  const at = version >= WITH_LEADER_EPOCH ? 14 : 10;
  const metadata = version >= COMPACT ? readCompactString(value, at) : readString(value, at).text;
  return { offset, metadata };
}

function readString(bytes: Buffer, at: number): { text: string; next: number } {
  const next = at + 2 + bytes.readInt16BE(at);
  if (next > bytes.length) throw new RangeError(`a string ends at ${next} of ${bytes.length} bytes`);
  return { text: bytes.toString("utf8", at + 2, next), next };
}

function readCompactString(bytes: Buffer, at: number): string {
  let length = 0;
  let begin = at;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes.readUInt8(begin++);
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  const end = begin + length - 1;
  if (end > bytes.length) throw new RangeError(`a string ends at ${end} of ${bytes.length} bytes`);
  return bytes.toString("utf8", begin, end);
}
