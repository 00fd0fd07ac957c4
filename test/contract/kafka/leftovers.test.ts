/** T6 of src/kafka/transactional-writer.ts on a real broker: what stands in the log tells which transactions ended where. */
import { afterEach, expect, test } from "vitest";

import type { PublisherPort } from "../../../src/actors/ports.ts";
import { createPublisher, transactionalIdOf } from "../../../src/kafka/publisher.ts";
import { until } from "../../support/until.ts";
import { freshName, freshTopic, outputRecord, readAtLeast, testClient } from "./kafka.ts";

const client = testClient();
const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

/** F2 as the runtime does it. */
async function fence(publisher: PublisherPort, transactionalId: string) {
  const writer = await until(() => publisher.fence(transactionalId), { what: `fence ${transactionalId}` });
  opened.push(writer);
  return writer;
}

test.each([
  // Record, marker of F2, record, marker.
  { again: false, offset: 2n },
  // Record, marker of F2, a further one that ends whatever F2 might have passed over, record, marker.
  { again: true, offset: 3n },
])("T6: records published again ($again) stand behind an abort of their own, once", async ({ again, offset }) => {
  const input = await freshTopic(client, "in", { partitions: 1 });
  const output = await freshTopic(client, "out", { partitions: 1 });
  const groupId = freshName("group");
  const id = transactionalIdOf(groupId, 0);
  const request = {
    records: [outputRecord(output, "one")],
    positions: { [input]: 1n },
    metadata: { instance: "i1", seq: 1, token: "8f14e45f-ceea-467f-a8f2-0d4d0c5b9b11" },
  };
  const killed = createPublisher({
    client,
    groupId,
    topics: [input],
    hook: (point) => {
      if (point === "kafka.produced") throw new Error("killed here");
    },
  });
  const next = createPublisher({ client, groupId, topics: [input] });
  opened.push(killed, next);

  await expect((await fence(killed, id)).publish(request)).rejects.toMatchObject({ code: "PUBLISH_FAILED" });
  await (await fence(next, id)).publish({ ...request, again });
  expect((await readAtLeast(client, output, 1)).map((record) => record.offset)).toEqual([offset]);
});
