/** The contract of ShardStore on Postgres. */
import { openFixture } from "./fixture.ts";
import { shardStoreContract } from "./shard-store.ts";

shardStoreContract(openFixture);
