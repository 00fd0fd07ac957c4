/** The contract of ShardStore on memory. */
import { shardStoreContract } from "../../contract/storage/shard-store.ts";
import { openMemoryStore } from "../../support/memory-ports.ts";

shardStoreContract(openMemoryStore);
