/**
 * The jars of Kafka Connect and of Debezium's connector for Postgres, fetched from Maven once.
 *
 * Two folders: the connector is a plug-in with a class loader of its own, and must not be on the class path of the worker.
 */
import { join } from "node:path";

import { KAFKA_VERSION, LOG4J_ARTIFACTS } from "../../../src/stack/kafka-libs.ts";
import { cacheRoot, fetchMavenLibs } from "../../../src/stack/maven-libs.ts";

export const DEBEZIUM_VERSION = "3.7.0.Final";

export interface ConnectLibs {
  /** Class path of the worker. */
  readonly worker: string;
  /** Of `plugin.path`: a folder with a folder for each plug-in. */
  readonly plugins: string;
}

export async function fetchConnectLibs(log: (line: string) => void): Promise<ConnectLibs> {
  const cache = join(cacheRoot(), ".lockstep");
  const worker = await fetchMavenLibs(
    {
      name: "connect-worker",
      what: `Kafka Connect ${KAFKA_VERSION}`,
      megabytes: 36,
      folder: join(cache, `connect-worker-${KAFKA_VERSION}`),
      artifacts: [
        { group: "org.apache.kafka", artifact: "connect-runtime", version: KAFKA_VERSION },
        ...LOG4J_ARTIFACTS,
      ],
    },
    process.env,
    log,
  );
  const plugins = join(cache, `connect-plugins-${DEBEZIUM_VERSION}`);
  await fetchMavenLibs(
    {
      name: "connect-debezium-postgres",
      what: `Debezium ${DEBEZIUM_VERSION}`,
      megabytes: 8,
      folder: join(plugins, "debezium-postgres"),
      artifacts: [
        {
          group: "io.debezium",
          artifact: "debezium-connector-postgres",
          version: DEBEZIUM_VERSION,
          without: ["org.apache.kafka", "org.slf4j"], // the worker has them, and they must be the worker's
        },
      ],
    },
    process.env,
    log,
  );
  return { worker, plugins };
}
