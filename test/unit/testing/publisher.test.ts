/** The contract of PublisherPort and TransactionalWriter on memory. */
import { publisherContract } from "../../contract/kafka/publisher-port.ts";
import { openMemoryPublishers } from "../../support/memory-ports.ts";

publisherContract(openMemoryPublishers);
