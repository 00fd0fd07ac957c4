/**
 * The Kafka of the embedded stack: one node, or three that replicate.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { LockstepError } from "../errors.ts";
import { freePorts } from "./free-ports.ts";
import { createKafkaNode, type KafkaClusterPlan, type KafkaNode } from "./kafka-node.ts";
import { brokersKnownTo } from "./probe.ts";

const JOIN_TIMEOUT_MS = 60_000;
const JOIN_POLL_MS = 25;

/** @throws {LockstepError} STACK_UNAVAILABLE a node did not come up; the message has its last lines */
export async function startKafkaCluster(
  options: Omit<KafkaClusterPlan, "clusterId" | "nodes"> & { brokers: number },
): Promise<KafkaNode[]> {
  const ports = await freePorts(options.brokers * 2);
  const plans = Array.from({ length: options.brokers }, (_, index) => ({
    id: index + 1,
    port: ports[index * 2]!,
    controllerPort: ports[index * 2 + 1]!,
  }));
  const cluster: KafkaClusterPlan = { ...options, clusterId: newClusterId(), nodes: plans };
  const nodes = await Promise.all(plans.map((plan) => createKafkaNode(cluster, plan)));
  // Together: the first to start waits for a majority of the controllers.
  await Promise.all(nodes.map((node) => node.start()));
  await Promise.all(plans.map((plan) => untilAllJoined(plan.port, options.brokers)));
  return nodes;
}

/** A broker answers as soon as it serves itself; topics with three replicas need all three in its metadata. */
async function untilAllJoined(port: number, brokers: number): Promise<void> {
  const deadline = performance.now() + JOIN_TIMEOUT_MS;
  for (let known = 0; known < brokers; known = await brokersKnownTo(port)) {
    if (performance.now() > deadline) {
      throw new LockstepError(
        "STACK_UNAVAILABLE",
        `the Kafka node on port ${port} knows ${known} of ${brokers} brokers`,
      );
    }
    await sleep(JOIN_POLL_MS);
  }
}

/** A UUID as Kafka writes it: base64url, and not with a dash in front, which its tools take for an option. */
function newClusterId(): string {
  const id = randomBytes(16).toString("base64url");
  return id.startsWith("-") ? newClusterId() : id;
}
