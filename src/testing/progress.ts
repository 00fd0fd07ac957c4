/** How far a deployment in memory has come. */
import type { Cluster } from "./cluster.ts";

/** What is still to be taken or published, in words; empty when all is done. */
export function stillToDo({ postgres, kafka, app }: Cluster): string[] {
  const topics = app.inputs.map(({ topic }) => topic);
  return [...postgres.shards.values()].flatMap(({ row }) => {
    const { shard } = row;
    const committed = kafka.offsetsOf(shard, topics);
    return topics.flatMap((topic) => {
      const log = kafka.log(topic, shard);
      const ours = row.positions?.[topic] ?? null;
      // Markers at the end may stay untaken: only records move a position.
      const left = log.read(ours ?? 0n, Number.POSITIVE_INFINITY).records.length;
      if (left > 0 || log.stable < log.end) return [`shard ${shard} has ${left} records of ${topic} to take`];
      if (ours === null || committed[topic]!.offset !== ours)
        return [`shard ${shard} of ${topic}: Kafka has ${committed[topic]!.offset}, Postgres ${ours}`];
      return [];
    });
  });
}
