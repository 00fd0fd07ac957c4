/** Metadata of a committed offset: `<instance>/<seq>/<token>` of the commit, whoever published it. */
import type { OffsetMetadata } from "./ports.ts";

export function formatOffsetMetadata({ instance, seq, token }: OffsetMetadata): string {
  return `${instance}/${seq}/${token}`;
}

/** @returns null for metadata that no commit of ours wrote */
export function parseOffsetMetadata(text: string): OffsetMetadata | null {
  const [, instance, seq, token] = /^([^/]+)\/(\d{1,15})\/([^/]+)$/.exec(text) ?? [];
  return instance === undefined || token === undefined ? null : { instance, seq: Number(seq), token };
}
