// node --test examples/greeter/
import { after, test } from "node:test";

import { coverageTable, machineTests } from "lockstep/testing";

import greeter from "./app.js";

const arrivals = [1, 2, 3].map((at) => ({ topic: "greeter.arrivals", value: { name: "Ada", at } }));
const { cases, coverage } = machineTests(greeter, { examples: { greeter: [{ key: "Ada", steps: arrivals }] } });

for (const { name, run } of cases) test(name, run);
after(() => console.log(coverageTable(coverage())));
